-- Take over processes that nobody owns: each goes to one kernel, by the database's clock.
-- Who comes second to a row looks again at that row alone, not at the kernels; so it is the
-- epoch that tells whether somebody was there first.
with free as materialized (
    select process.pid, lease.epoch, lease.owner
    from process
    join lease using (pid)
    where process.namespace = $1
        and process.state = any ($7::text[])
        and process.state not in ('exited', 'failed', 'killed')
        and ($2::bigint is null or process.pid = $2)
        and (
            $3::text[] is null
            or (process.program, process.version) in (
                select * from unnest($3::text[], $4::text[])
            )
        )
        and (
            $8::float8 is null
            or process.state <> 'parked'
            or process.waits_in = ''
            or process.wake_at <= $8
            or (
                process.waits_in like '%receive%'
                and exists (select from letter where letter.pid = process.pid)
            )
            or (
                process.waits_in like '%ask%'
                and exists (
                    select from question
                    where question.pid = process.pid
                        and question.answer is not null
                        and not question.closed
                )
            )
            or exists (select from command where command.pid = process.pid)
            or exists (
                select from process as other
                where other.pid = any (process.waits_for)
                    and other.state in ('exited', 'failed', 'killed')
            )
        )
        and lease.owner is distinct from $5  -- its own it has, also when its lease has run out
        and not exists (
            select from kernel where kernel.id = lease.owner and kernel.until > now()
        )
),
locked as (
    select lease.pid
    from free
    join lease on lease.pid = free.pid and lease.epoch = free.epoch
    order by lease.pid
    limit $6
    for update of lease skip locked
),
taken as (
    update lease
    set
        epoch = lease.epoch + 1,
        owner = $5,
        silent = case
            when exists (select from kernel where kernel.id = lease.owner) then lease.epoch
            else lease.silent
        end
    from locked
    where lease.pid = locked.pid
    returning lease.pid, lease.epoch, lease.seq, lease.silent
),
unspent as (  -- nobody will ever say what these have used
    delete from reservation
    where namespace = $1 and (
        pid in (select pid from taken)
        or (
            pid = 0
            and not exists (
                select from kernel where kernel.id = reservation.kernel and kernel.until > now()
            )
        )
        or exists (
            select from process
            where process.pid = reservation.pid
                and process.state in ('exited', 'failed', 'killed')
        )
    )
    returning scope, what, amount
),
assumed as (
    update account
    set
        used = account.used + sums.amount, reserved = account.reserved - sums.amount,
        lost = account.lost + sums.amount
    from (select scope, what, sum(amount) as amount from unspent group by scope, what) as sums
    where account.namespace = $1 and account.scope = sums.scope and account.what = sums.what
),
robbed as (
    -- A kernel that has only fallen silent does not see it by itself where it only waits.
    select taken.pid
    from taken
    join free using (pid)
    join kernel on kernel.id = free.owner
    where pg_notify(
        'aosk_' || md5(current_schema || '/' || $1), 'only ' || kernel.id || ' ' || taken.pid
    ) is null
)
update process
set state = 'running', since = case when state = 'running' then since else now() end
from taken
where process.pid = taken.pid and process.state = any ($7::text[])
    and not exists (select from robbed)
returning process.*, taken.epoch, taken.seq, taken.silent
