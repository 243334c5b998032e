-- Places that kernels share: so many each holds, and since when it waits for one more.

create table seat (
    namespace text not null,
    name text not null,
    holder text not null,
    kernel bigint not null references kernel on delete cascade,  -- whoever leaves holds nothing
    turn bigint not null,  -- of the last word that was heard; one that comes late changes nothing
    held integer not null,
    places integer not null,  -- of all kernels together, as this one has it
    waits_since timestamptz,
    waits_until timestamptz,  -- unless it asks again
    heard_at timestamptz not null,
    primary key (namespace, name, holder)
) with (fillfactor = 50);
create index seat_kernel on seat (kernel);
