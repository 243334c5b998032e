select process.pid
from process
join lease using (pid)
where process.namespace = $1
    and process.pid = any ($2::bigint[])
    and process.state not in ('exited', 'failed', 'killed')
    and not exists (
        select from kernel where kernel.id = lease.owner and kernel.until > now()
    )
    and not exists (
        select from kernel
        where kernel.namespace = $1
            and kernel.until > now()
            and process.program || chr(31) || process.version = any (kernel.programs)
    )
order by process.pid
