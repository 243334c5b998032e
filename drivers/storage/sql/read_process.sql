select process.*, lease.epoch, lease.silent
from process join lease using (pid)
where namespace = $1 and (pid = $2 or key = $3)
