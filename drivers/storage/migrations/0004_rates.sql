-- Rates that kernels share, each full at a moment; drawing puts that moment off.

create table rate (
    namespace text not null,
    name text not null,
    each_s float8 not null,  -- brings one
    burst float8 not null,
    full_at float8 not null,  -- seconds since 1970, by this server's clock
    granted float8 not null,  -- to whoever came last
    primary key (namespace, name)
) with (fillfactor = 50);
