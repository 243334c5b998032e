-- Also when it has run out: what nobody has claimed is still this kernel's.
update kernel set until = now() + $2::float8 * interval '1 second'
where id = $1
returning id
