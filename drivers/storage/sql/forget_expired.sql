-- Delete what find_expired.sql finds, bodies and all. Of one with a key its row stays, with the
-- lease, so that the key is taken for as long as it is to be.
with
chosen as materialized (
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
    for update skip locked
),
retirements as (
    insert into retired (pid, seq, head)
    select pid, seq, head from lease where pid = any (array(select pid from chosen))
    on conflict (pid) do nothing
),
marks as (delete from mark where pid = any (array(select pid from chosen))),
salts as (delete from salt where pid = any (array(select pid from chosen))),
entries as (delete from entry where pid = any (array(select pid from chosen))),
intents as (delete from intent where pid = any (array(select pid from chosen))),
pages as (delete from page where pid = any (array(select pid from chosen))),
letters as (delete from letter where pid = any (array(select pid from chosen))),
commands as (delete from command where pid = any (array(select pid from chosen))),
questions as (delete from question where pid = any (array(select pid from chosen))),
accounts as (
    delete from account
    where namespace = $1 and scope = any (array(select 'process:' || pid from chosen))
),
leases as (delete from lease where pid = any (array(select pid from chosen where whole))),
processes as (delete from process where pid = any (array(select pid from chosen where whole))),
kept as (
    update process
    set bare = true, state_json = 'null'
    where pid = any (array(select pid from chosen where not whole))
)
select * from chosen
