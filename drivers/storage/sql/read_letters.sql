select number, sender, body from letter where pid = $1 order by number limit $2
