update kernel set programs = $2 where id = $1
