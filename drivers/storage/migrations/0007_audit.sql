-- The chain of each process's log, and its seals: see docs/reference/audit.md. What is written
-- stays as it is: the triggers stop whoever is not the superuser, and the hashes tell of him.

alter table entry add column hash bytea;
alter table entry add column erased boolean not null default false;  -- `rest` stands for its body

alter table lease add column head bytea not null default decode(repeat('00', 32), 'hex');
alter table lease add column sealed boolean not null default true;
create index if not exists lease_unsealed on lease (pid) where not sealed;

-- What is no syscall's outcome: births, ends, what was about to be done once, what was noted of
-- it, and commands.
create table mark (
    pid bigint not null,
    seq bigint not null,
    epoch bigint not null,
    erased boolean not null default false,
    kind text not null,
    key text not null,
    fingerprint bytea not null,
    said bytea not null,
    hash bytea not null,
    primary key (pid, seq)
);

-- What the bodies of a process are hashed with; where it is gone nobody can guess an erased one.
create table salt (
    pid bigint primary key,
    salt bytea not null
);

-- Processes whose log retention has deleted, and where they stood.
create table retired (
    pid bigint primary key,
    seq bigint not null,
    head bytea not null,
    sealed boolean not null default false
);
create index if not exists retired_unsealed on retired (pid) where not sealed;

create table seal (
    number bigint primary key,
    at bigint not null,  -- microseconds since 1970
    leaves bytea not null,
    hash bytea not null
);
alter table seal alter column leaves set storage external;

create function refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception 'the log can only be added to: % of % is refused', tg_op, tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

-- An erased entry keeps all but its body; of anything else nothing changes.
create trigger stays before update on entry for each row
    when (
        not (new.erased and not old.erased)
        or row(new.pid, new.step, new.path, new.seq, new.epoch, new.kind, new.fingerprint)
            is distinct from row(old.pid, old.step, old.path, old.seq, old.epoch, old.kind, old.fingerprint)
        or row(new.failed, new.took, new.hash) is distinct from row(old.failed, old.took, old.hash)
        or new.body is not null
    )
    execute function refuse_change();
create trigger stays before update on mark for each row
    when (
        not (new.erased and not old.erased)
        or row(new.pid, new.seq, new.epoch, new.kind, new.key, new.fingerprint, new.hash)
            is distinct from row(old.pid, old.seq, old.epoch, old.kind, old.key, old.fingerprint, old.hash)
    )
    execute function refuse_change();
create trigger stays before update or delete on seal for each row execute function refuse_change();
create trigger stays_all before truncate on entry execute function refuse_change();
create trigger stays_all before truncate on mark execute function refuse_change();
create trigger stays_all before truncate on seal execute function refuse_change();

-- Retention deletes the log of a process that has ended, and all of it.
create function refuse_loss() returns trigger
language plpgsql set search_path from current as $$
begin
    if exists (
        select from gone join process using (pid)
        where process.state not in ('exited', 'failed', 'killed')
    ) or exists (select from gone join entry using (pid))
        or exists (select from gone join mark using (pid))
        or exists (select from gone left join retired using (pid) where retired.pid is null)
    then
        raise exception 'the log can only be added to: DELETE of % is refused', tg_table_name
            using errcode = 'insufficient_privilege';
    end if;
    return null;
end
$$;
create trigger stays_whole after delete on entry referencing old table as gone
    for each statement execute function refuse_loss();
create trigger stays_whole after delete on mark referencing old table as gone
    for each statement execute function refuse_loss();
