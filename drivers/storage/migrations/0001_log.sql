-- Processes, their log and what is derived from it.
-- Bodies are bytea: JSON text may hold NUL, which text may not. What fills pieces of 1996 bytes
-- stands apart from its `rest`: so large a piece has a quarter of a page of TOAST, and one
-- that is smaller would leave another quarter empty.

create extension if not exists vector with schema public;

create sequence pids increment by 64 cache 1;

create table kernel (
    id bigint generated always as identity primary key,
    namespace text not null,
    until timestamptz not null,
    seq bigint not null default 0,  -- of its last commit from outside of all processes
    programs text[] not null default '{}',  -- it has: their names and versions, by chr(31)
    machine text not null default '',  -- where it runs, and as what
    process text not null default ''
);

create table process (
    pid bigint primary key,
    namespace text not null,
    key text,
    program text not null,
    version text not null,
    name text not null,
    role text not null,
    tags text[] not null,
    parent bigint,
    class text not null,
    priority integer not null,
    tenant text not null,
    state text not null,
    step integer not null,
    state_json bytea not null,
    result bytea,
    error bytea,
    error_kind text,
    bound boolean not null,  -- to its parent's life
    waits_in text not null default '',  -- what a parked one waits for: the syscalls, by commas
    waits_for bigint[],  -- processes
    wake_at float8,  -- seconds since 1970, by the clock of kernels
    clock float8 not null default 0,
    born_at timestamptz not null default now(),
    since timestamptz not null default now()  -- in this state
);
create unique index process_key on process (namespace, key) where key is not null;
create index process_alive on process (namespace, state, pid)
    where state not in ('exited', 'failed', 'killed');
create index process_parent on process (parent) where parent is not null;
create index process_waits_for on process using gin (waits_for) where waits_for is not null;
create index process_wake_at on process (namespace, wake_at)
    where state = 'parked' and wake_at is not null;

-- Who may write for a process: narrow, because every commit updates it. The one that fences.
-- `seq` is the number of the last commit; `owner` a kernel, or one that is gone. `silent` is the
-- newest epoch whose owner did not leave, but was not heard of any more.
create table lease (
    pid bigint primary key,
    epoch bigint not null,
    seq bigint not null,
    owner bigint,
    silent bigint not null default -1
) with (fillfactor = 50);

-- Here and in `entry` numbers stand before texts, so that nothing is lost between them.
create table intent (
    pid bigint not null,
    step integer not null,
    attempts integer not null,
    epoch bigint not null,
    seq bigint not null,
    at timestamptz not null default now(),  -- of the last attempt
    path text not null,
    kind text not null,
    fingerprint bytea not null,
    effect text not null,
    note text not null default '',
    primary key (pid, step, path)
);

create table entry (
    pid bigint not null,
    step integer not null,
    took real,  -- seconds
    epoch bigint not null,
    seq bigint not null,
    failed boolean not null,
    path text not null,
    kind text not null,
    fingerprint bytea not null,
    body bytea,
    rest bytea not null,
    primary key (pid, step, path)
);
alter table entry alter column body set storage external;
alter table entry alter column rest set storage plain;

create table page (
    pid bigint not null,
    number bigint not null,
    role text not null,
    pinned boolean not null,
    tool_call_id text,
    step integer,
    path text,
    text bytea,
    rest bytea,
    primary key (pid, number)
);
alter table page alter column text set storage external;
alter table page alter column rest set storage plain;

create table letter (
    pid bigint not null,
    number bigint generated always as identity,
    sender bigint,
    body bytea not null,
    primary key (pid, number)
);

-- Signals for whoever owns the process.
create table command (
    pid bigint not null,
    number bigint generated always as identity,
    signal text not null,
    grace_s float8 not null,
    primary key (pid, number)
);

create table question (
    number bigint generated always as identity primary key,
    namespace text not null,
    pid bigint not null,
    step integer not null,
    path text not null,
    text bytea not null,
    choices bytea not null,
    deadline float8,
    answer bytea,
    receipt text,
    closed boolean not null default false,
    unique (pid, step, path)
);
create index question_open on question (namespace, number) where answer is null and not closed;

create table memory (
    number bigint generated always as identity primary key,
    namespace text not null,
    tenant text not null,
    pid bigint,
    text bytea not null,
    tags text[] not null,
    terms text[] not null
);
create index memory_terms on memory using gin (terms);
create index memory_tenant on memory (namespace, tenant);

-- One vector for each embedder that was ever configured; null where it cannot take the text.
create table memory_vector (
    memory bigint not null references memory on delete cascade,
    embedder text not null,
    dimensions integer not null,
    vector halfvec,
    primary key (memory, embedder)
);
