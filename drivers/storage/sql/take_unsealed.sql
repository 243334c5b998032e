-- Where processes stand that have gone on, or are over, since they were sealed. One that is being
-- written for at this moment is left for the next seal: nobody waits for a seal.
with
standing as materialized (
    select pid, seq, head from lease where not sealed limit $1 for update skip locked
),
known as (
    update lease set sealed = true from standing where lease.pid = standing.pid
),
over as (
    update retired set sealed = true where not sealed returning pid, seq, head
)
select pid, seq, head, false as retired from standing
union all
select pid, seq, head, true from over
order by pid, retired
