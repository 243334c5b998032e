select
    coalesce(e.step, i.step) as step, coalesce(e.path, i.path) as path,
    coalesce(e.kind, i.kind) as kind, coalesce(e.fingerprint, i.fingerprint) as fingerprint,
    coalesce(i.effect, 'none') as effect, coalesce(i.attempts, 0) as attempts,
    e.pid is not null as settled, coalesce(e.failed, false) as failed,
    coalesce(e.body || e.rest, e.rest, '') as body,
    coalesce(i.epoch, 0) as epoch, coalesce(i.note, '') as note,
    extract(epoch from i.at)::float8 as began_at, e.took,
    coalesce(i.rule, '') as rule, coalesce(e.erased, false) as erased
from (select * from entry where pid = $1 and ($2::integer is null or step = $2)) as e
full join (select * from intent where pid = $1 and ($2::integer is null or step = $2)) as i
    using (step, path)
order by least(i.seq, e.seq)
