-- What retention needs: when a process ended is found by an index, and who is needed by a rule
-- that stands here, so that an older kernel beside a newer one keeps what the newer one needs.

alter table process add column bare boolean not null default false;  -- only this row is left

create index if not exists process_ended on process (namespace, bare, since)
    where state in ('exited', 'failed', 'killed');

-- Does anybody who lives need what is left of an ended process? Its parent, who may still ask how
-- it came out; whoever waits for it; and its descendants, who are signalled through it.
create function is_needed(ended bigint, ended_parent bigint) returns boolean
language sql stable
return
    exists (
        select from process
        where pid = ended_parent and state not in ('exited', 'failed', 'killed')
    )
    or exists (
        select from process
        where waits_for @> array[ended] and state not in ('exited', 'failed', 'killed')
    )
    or exists (
        with recursive below as (
            select pid, state from process where parent = ended
            union
            select child.pid, child.state from below join process as child on child.parent = below.pid
        )
        select from below where state not in ('exited', 'failed', 'killed')
    );
