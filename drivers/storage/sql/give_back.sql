-- Nobody is to own these processes if this kernel owns them in these epochs.
with locked as (
    select pid, epoch, owner from lease where pid = any ($2::bigint[]) order by pid for update
)
update lease
set owner = null
from locked
where lease.pid = locked.pid
    and locked.owner = $1
    and (locked.pid, locked.epoch) in (select * from unnest($2::bigint[], $3::bigint[]))
