-- Upwards from parent to parent; a parent that is not there any more is no ancestor.
with recursive line as (
    select pid, parent, born_at, 0 as depth from process where namespace = $1 and pid = $2::bigint
    union all
    select above.pid, above.parent, above.born_at, line.depth + 1
    from line join process above on above.pid = line.parent
)
select
    own.pid, own.parent, extract(epoch from own.born_at)::float8 as born,
    root.pid as root, extract(epoch from root.born_at)::float8 as root_born
from line own, (select * from line order by depth desc limit 1) root
where own.depth = 0
