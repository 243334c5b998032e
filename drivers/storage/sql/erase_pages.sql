update page set text = null, rest = null where pid = $1
