-- Whose time is over, some of them; one that is just being written again stays.
delete from record
using (
    select namespace, collection, key
    from record
    where until < now()
    order by until
    limit 1000
    for update skip locked
) as old
where (record.namespace, record.collection, record.key) = (old.namespace, old.collection, old.key)
    and record.until < now()
