select seq, step, path, body, rest, hash from entry
where pid = $1 and not erased and ($3::text is null or (step = $2::integer and path = $3))
union all
select seq, null, null, null, said, hash from mark
where pid = $1 and not erased and $3::text is null
