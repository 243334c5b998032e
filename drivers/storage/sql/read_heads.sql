-- Where the chains of these processes end, and what their bodies are hashed with.
select lease.pid, lease.head, salt.salt
from lease left join salt using (pid)
where lease.pid = any ($1::bigint[])
