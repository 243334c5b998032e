select process.*, lease.epoch, lease.silent
from process join lease using (pid)
where namespace = $1
    and ($2::text is null or name = $2)
    and ($3::text is null or role = $3)
    and ($4::text is null or $4 = any (tags))
    and ($5::bigint is null or parent = $5)
    and ($6::text is null or tenant = $6)
    and ($7 or state not in ('exited', 'failed', 'killed'))
order by pid
limit $8
