-- Which of these processes are this kernel's, in these epochs? Waits for whoever has locked
-- them, and looks then; the epoch is compared afterwards, for it may be that which changes.
with locked as (
    select pid, epoch, owner from lease where pid = any ($2::bigint[]) order by pid for update
)
select pid
from locked
where owner = $1 and (pid, epoch) in (select * from unnest($2::bigint[], $3::bigint[]))
