delete from letter where pid = $1
