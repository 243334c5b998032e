insert into seal (number, at, leaves, hash) values ($1, $2, $3, $4)
