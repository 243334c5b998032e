insert into salt (pid, salt)
select * from unnest($1::bigint[], $2::bytea[])
on conflict do nothing
