-- namespace, name, each_s, burst, least, most, owed.
-- The row's lock has draws one after another. Whoever waited for it is reckoned from the moment
-- it began to wait: it is given less than there is, never more.
update rate as r
set each_s = $3::float8,
    burst = $4::float8,
    (granted, full_at) = (
        select taken, owing.since + taken * $3::float8
        from (
            select greatest(
                greatest(r.full_at, extract(epoch from now())::float8) + $7::float8 * $3::float8,
                extract(epoch from now())::float8
            ) as since
        ) as owing,
        lateral (
            select $4::float8 - (owing.since - extract(epoch from now())::float8) / $3::float8
                as room
        ) as bucket,
        lateral (
            select case when room + 1e-6 >= $5::float8 then least($6::float8, room) else 0 end
                as taken
        ) as draw
    )
where r.namespace = $1 and r.name = $2
returning
    granted,
    greatest(r.full_at + ($5::float8 - $4::float8) * $3::float8
        - extract(epoch from now())::float8, 0) as wait_s
