-- What is chained, of one process or of all; the bodies in their pieces, so that none is read
-- only to be sorted.
select
    entry.pid, seq, epoch, kind, step || ':' || path as key, fingerprint, failed, took,
    body, rest, erased, hash, salt.salt
from entry left join salt using (pid)
where $1::bigint is null or pid = $1
union all
select
    mark.pid, seq, epoch, kind, key, fingerprint, false, null,
    null, said, erased, hash, salt.salt
from mark left join salt using (pid)
where $1::bigint is null or pid = $1
order by pid, seq
