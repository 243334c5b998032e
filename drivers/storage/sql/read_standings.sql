-- A process that has its lease but not its log any more is retired too.
select pid, seq, head, true as retired from retired
where $1::bigint is null or pid = $1
union all
select pid, seq, head, false from lease
where ($1::bigint is null or pid = $1) and not exists (select from retired where retired.pid = lease.pid)
