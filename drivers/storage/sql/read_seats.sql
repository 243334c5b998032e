select
    name, max(places) as places, sum(held)::integer as held,
    (count(*) filter (where waits_until > now()))::integer as waiting
from seat
join kernel on kernel.id = seat.kernel and kernel.until > now()
where seat.namespace = $1
group by name
having sum(held) > 0 or bool_or(waits_until > now())
order by name
