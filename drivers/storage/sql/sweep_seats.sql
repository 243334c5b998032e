-- Who holds nothing is remembered for a while, in case an old word of it is still on its way.
delete from seat
where namespace = $1 and held = 0 and heard_at < now() - interval '1 minute'
