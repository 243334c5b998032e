select
    coalesce(last.number, 0) as number, last.hash,
    (extract(epoch from clock_timestamp()) * 1000000)::bigint as now
from (select) as always
left join lateral (select number, hash from seal order by number desc limit 1) as last on true
