select
    salt.salt,
    exists (select from kernel where kernel.id = lease.owner and kernel.until > now()) as owned
from lease join process using (pid) left join salt using (pid)
where process.namespace = $1 and lease.pid = $2
for update of lease
