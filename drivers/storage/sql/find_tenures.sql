select
    process.pid, kernel.id as kernel, extract(epoch from process.since)::float8 as since
from process
join lease using (pid)
left join kernel on kernel.id = lease.owner and kernel.until > now()
where process.namespace = $1 and process.pid = any ($2::bigint[])
order by process.pid
