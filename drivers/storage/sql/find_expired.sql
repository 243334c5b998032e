select
    pid, program, state, tenant, key, extract(epoch from since)::float8 as ended_at,
    key is null or coalesce(since < now() - $6::float8 * interval '1 second', false) as whole
from process
where namespace = $1
    and state in ('exited', 'failed', 'killed')
    and since < now() - $2::float8 * interval '1 second'
    and (
        not bare
        or (bare and since < now() - $6::float8 * interval '1 second')
    )
    and state = any ($3::text[])
    and ($4::text is null or tenant = $4)
    and tenant <> all ($5::text[])
    and not exists (  -- a claim settles that first
        select from reservation
        where reservation.namespace = $1
            and (
                reservation.pid = process.pid
                or reservation.scope = 'process:' || process.pid
            )
    )
    and not is_needed(pid, parent)
order by since
limit $7
