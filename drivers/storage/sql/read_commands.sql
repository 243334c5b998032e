select number, signal, grace_s from command where pid = $1 order by number
