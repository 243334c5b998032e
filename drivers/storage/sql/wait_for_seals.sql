-- A seal holds rows for a moment, and a claim passes over rows that somebody holds.
select pg_advisory_xact_lock_shared($1::integer, hashtext(current_schema))
