select state, count(*) as number from process where namespace = $1 group by state order by state
