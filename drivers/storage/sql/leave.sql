-- What belonged to it belongs to nobody then.
delete from kernel where id = $1
