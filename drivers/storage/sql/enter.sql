-- Take a place among the kernels; with the processes of the former one, where it is lost.
with
swept as (
    delete from kernel where until < now() - interval '1 day'
),
entered as (
    insert into kernel (namespace, until, machine, process)
    values ($1, now() + $2::float8 * interval '1 second', $4, $5)
    returning id
),
moved as (
    update lease set owner = entered.id from entered where $3::bigint > 0 and lease.owner = $3
)
select id from entered
