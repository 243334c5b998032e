select number, at, leaves, hash from seal order by number
