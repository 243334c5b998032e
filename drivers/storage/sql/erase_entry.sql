update entry set erased = true, body = null, rest = $4 where pid = $1 and step = $2 and path = $3
