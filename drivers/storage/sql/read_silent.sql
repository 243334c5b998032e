-- Kernels of this machine that are not heard of any more.
select id, process from kernel where machine = $1 and until < now()
