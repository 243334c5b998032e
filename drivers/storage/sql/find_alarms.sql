select pid, wake_at
from process
where namespace = $1
    and state = 'parked'
    and wake_at is not null
    and (program, version) in (select * from unnest($2::text[], $3::text[]))
order by wake_at
limit $4
