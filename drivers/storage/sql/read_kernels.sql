-- The kernels of a namespace, those that have fallen silent too, with what each owns.
select
    kernel.id as number, extract(epoch from kernel.until)::float8 as until,
    kernel.until > now() as lives, kernel.programs, kernel.process as os_process,
    (
        select count(*)
        from process join lease using (pid)
        where lease.owner = kernel.id and process.state = 'running'
    ) as processes
from kernel
where kernel.namespace = $1
order by kernel.id
