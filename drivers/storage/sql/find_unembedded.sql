select number, tenant, pid, text, tags, terms
from memory
where namespace = $1
    and not exists (
        select from memory_vector as v
        where v.memory = memory.number
            and v.embedder = $2
            and (v.vector is null or $3::integer is null or v.dimensions = $3)
    )
order by number
limit $4
