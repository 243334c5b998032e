select collection, key, body, extract(epoch from at)::float8 as at
from record
where namespace = $1 and collection = $2 and key = $3 and (until is null or until > now())
