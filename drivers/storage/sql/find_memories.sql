select number, tenant, pid, text, tags, terms
from memory
where namespace = $1
    and tenant = $2
    and (cardinality($3::text[]) = 0 or terms && $3)
    and tags @> $4
order by
    cardinality(array(select unnest(terms) intersect select unnest($3::text[]))) desc,
    number desc
limit $5
