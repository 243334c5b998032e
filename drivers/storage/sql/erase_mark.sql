update mark set erased = true, said = $3 where pid = $1 and seq = $2
