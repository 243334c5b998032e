update salt set salt = $2 where pid = $1
