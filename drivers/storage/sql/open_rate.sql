insert into rate (namespace, name, each_s, burst, full_at, granted)
values ($1, $2, 1, 1, 0, 0)
on conflict do nothing
returning name
