-- Kernels of this machine, whether or not they have been heard of lately.
select id, process from kernel where machine = $1
