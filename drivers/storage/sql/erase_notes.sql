update intent set note = '' where pid = $1
