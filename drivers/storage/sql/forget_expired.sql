-- Delete what is found, bodies and all. Of one with a key its row stays, with the lease, so that
-- the key is taken for as long as it is to be.
with
chosen as materialized (
    {find_expired}
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
