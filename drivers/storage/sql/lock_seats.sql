-- For the rest of the transaction: who asks for places of this name goes one after another, and
-- reads in a statement of its own what those before it have written.
select pg_advisory_xact_lock(hashtextextended(current_schema || '/' || $1 || '/' || $2, 0))
