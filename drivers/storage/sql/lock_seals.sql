-- Each schema has seals of its own.
select pg_try_advisory_xact_lock($1::integer, hashtext(current_schema))
