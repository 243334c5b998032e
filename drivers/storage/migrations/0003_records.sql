-- What services keep, each in collections of its own.

create table record (
    namespace text not null,
    collection text collate "C" not null,
    key text collate "C" not null,
    body bytea not null,
    at timestamptz not null default now(),
    until timestamptz,  -- from then on it is as if it were not there
    primary key (namespace, collection, key)
);
create index record_until on record (until) where until is not null;
