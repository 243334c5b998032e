-- The schema that pgvector was installed into.
select nspname
from pg_extension
join pg_namespace on pg_namespace.oid = extnamespace
where extname = 'vector'
