-- These have left, although they did not say so.
delete from kernel where id = any ($1::bigint[])
