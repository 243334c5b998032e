-- Of these processes; of 0, which is the outside, what the kernel's own row says.
select pid, epoch, seq, owner = $2 as ours, owner is null as gone from lease where pid = any ($1::bigint[])
union all
select 0, 0, seq, true, false from kernel where id = $2 and 0 = any ($1::bigint[])
