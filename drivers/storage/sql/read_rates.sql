select name, each_s, burst,
    burst - (full_at - extract(epoch from now())::float8) / each_s as "left"
from rate
where namespace = $1 and full_at > extract(epoch from now())::float8
order by name
