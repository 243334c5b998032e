-- Vectors of other lengths cannot be compared, so the case says what is looked at first.
select number, tenant, pid, text, tags, terms
from memory
join memory_vector on memory_vector.memory = memory.number
where namespace = $1
    and tenant = $2
    and embedder = $3
    and dimensions = $4
    and case when dimensions = $4 then 1 - (vector <=> $5::text::halfvec) >= $6 end
    and tags @> $7
order by vector <=> $5::text::halfvec, number desc
limit $8
