-- A batch of commits in one statement. `:name` stands for a parameter, or for a table made of
-- parameters that are arrays: their columns are in _postgres_statement.py, which also leaves out
-- every part that speaks of a table without rows, be it in a comment.
-- Who may write is whom an update or an insert of `fenced` has found; of all others, nothing
-- is written. For a process it is its owner, in its epoch: one that has left it, or has only
-- read the epoch, is not. An update waits for whoever holds the row and looks again then, so that a
-- statement that is sent twice, because its answer was lost, is carried out once.
-- "is true" keeps the planner from making a join of it, which without an index compares each row
-- with each process: `fenced` becomes a hash table instead.
with
owned as (
    update lease
    set
        seq = claim.seq,
        head = coalesce(claim.head, lease.head),
        sealed = lease.sealed and claim.head is null,
        owner = case when claim.leaves then null else lease.owner end
    from (select * from :claims) as claim
    where lease.pid = claim.pid and lease.epoch = claim.epoch and lease.owner = :kernel
        and lease.seq < claim.seq
        -- A chain goes on from where it ends, or somebody has to look where that is.
        and (claim.former is null or claim.former = lease.head)
    returning lease.pid
),
outside as (
    update kernel set seq = :outside
    where id = :kernel and seq < :outside
    returning 0::bigint as pid
),
newborn as (
    select * from :born
    where by = pid or by in (select pid from owned union all select pid from outside)
),
born as (  -- :born
    insert into lease (pid, epoch, seq, owner, head, sealed)
    select pid, 0, seq, :kernel, head, salt is null from newborn
    on conflict do nothing
    returning pid
),
fenced as (
    select pid from owned
    union all select pid from born
    union all select pid from outside
),
added_process as (  -- :born
    insert into process (
        pid, namespace, key, program, version, name, role, tags, parent, class, priority,
        tenant, user_id, state, step, state_json, bound, quotas, bounds
    )
    select
        pid, :namespace, key, program, version, name, role,
        array(select jsonb_array_elements_text(tags::jsonb)), parent, class, priority, tenant,
        user_id, 'running', 0, state_json, bound, quotas::bigint[],
        array(select jsonb_array_elements_text(bounds::jsonb))
    from newborn
    where by <> pid or pid in (select pid from born)
),
salted as (  -- :born
    insert into salt (pid, salt)
    select pid, salt from newborn
    where salt is not null and pid in (select pid from born)
),
marked as (
    insert into mark (pid, seq, epoch, kind, key, fingerprint, said, hash)
    select t.pid, t.seq, t.epoch, t.kind, t.key, t.fingerprint, t.said, t.hash
    from :marks
    where (t.by in (select pid from fenced)) is true
),
saved_process as (
    update process
    set
        state = s.state, step = s.step, state_json = s.state_json,
        result = s.result, error = s.error, error_kind = s.error_kind,
        waits_in = s.waits_in, waits_for = s.waits_for::bigint[], wake_at = s.wake_at,
        clock = s.clock,
        since = case when process.state = s.state then process.since else now() end
    from (select * from :saved) as s
    where process.pid = s.pid and (s.by in (select pid from fenced)) is true
),
intended as (
    insert into intent (pid, step, path, kind, fingerprint, effect, note, rule, attempts, epoch, seq)
    select pid, step, path, kind, fingerprint, effect, note, rule, 1, epoch, seq
    from :intents
    where (pid in (select pid from fenced)) is true
    on conflict (pid, step, path) do update
    set attempts = intent.attempts + 1, at = now(), epoch = excluded.epoch, note = excluded.note,
        rule = excluded.rule
),
annotated as (
    update intent
    set note = t.note
    from (select * from :notes) as t
    where intent.pid = t.pid and intent.step = t.step and intent.path = t.path
        and (t.pid in (select pid from fenced)) is true
),
settled as (
    insert into entry (pid, step, path, kind, fingerprint, failed, took, body, rest, epoch, seq, hash)
    select pid, step, path, kind, fingerprint, failed, took, body, rest, epoch, seq, hash
    from :entries
    where (pid in (select pid from fenced)) is true
),
paged as (
    insert into page (pid, number, role, pinned, tool_call_id, step, path, text, rest)
    select pid, number, role, pinned, tool_call_id, step, path, text, rest
    from :pages
    where (pid in (select pid from fenced)) is true
),
posted as (
    insert into letter (pid, sender, body)
    select t.pid, nullif(t.by, 0), t.body
    from :letters
    where (t.by in (select pid from fenced)) is true
    order by t.place
    returning pid
),
taken as (
    delete from letter
    using (select * from :taken) as t
    where letter.pid = t.pid and letter.number = t.number
        and (t.pid in (select pid from fenced)) is true
),
ended as (
    select t.pid from :ended where (t.by in (select pid from fenced)) is true
),
offered as (  -- to whoever has its program
    select t.pid from :offered where (t.by in (select pid from fenced)) is true
),
bereft as (  -- :ended
    select child.pid
    from ended join process as child on child.parent = ended.pid
    where child.bound and child.state not in ('exited', 'failed', 'killed')
),
awaiting as (  -- :ended
    select waiter.pid
    from ended join process as waiter on waiter.waits_for @> array[ended.pid]
    where waiter.state = 'parked'
),
doomed as (  -- :ended
    insert into command (pid, signal, grace_s)
    select pid, 'TERM', 5 from bereft
    returning pid
),
commanded as (
    insert into command (pid, signal, grace_s)
    select t.pid, t.signal, t.grace_s
    from :commands
    where (t.by in (select pid from fenced)) is true
    order by t.place
    returning pid
),
obeyed as (
    delete from command
    using (select * from :obeyed) as t
    where command.pid = t.pid and command.number = t.number
        and (t.pid in (select pid from fenced)) is true
),
announced as (  -- to whoever follows
    select t.pid from :announced where (t.by in (select pid from fenced)) is true
),
asked as (
    insert into question (namespace, pid, step, path, text, choices, deadline)
    select :namespace, pid, step, path, text, choices, deadline
    from :questions
    where (pid in (select pid from fenced)) is true
    on conflict (pid, step, path) do nothing
),
closed as (
    update question
    set closed = true
    from (select * from :closed) as t
    where question.pid = t.pid and question.step = t.step and question.path = t.path
        and (t.pid in (select pid from fenced)) is true
),
answered as (
    update question
    set answer = t.text, receipt = t.receipt
    from (select * from :answers) as t
    where question.number = t.number and question.namespace = :namespace
        and question.answer is null and not question.closed
        and (t.by in (select pid from fenced)) is true
    returning question.pid
),
limited as (
    insert into account (namespace, scope, what, ceiling, configured, action, instead)
    select
        :namespace, t.scope, t.what, t.ceiling, case when t.configured then t.ceiling end,
        t.action, t.instead
    from :accounts
    where (t.by in (select pid from fenced)) is true
    on conflict (namespace, scope, what) do update
    set
        ceiling = excluded.ceiling, action = excluded.action, instead = excluded.instead,
        configured = coalesce(excluded.configured, account.configured),
        overdrawn = greatest(0, account.used + account.reserved - excluded.ceiling)
    where excluded.configured is null or account.configured is distinct from excluded.configured
    returning 0::bigint as pid
),
lifted as (
    update account
    set
        ceiling = account.ceiling + t.amount,
        overdrawn = greatest(0, account.used + account.reserved - account.ceiling - t.amount)
    from (select * from :raises) as t
    where account.namespace = :namespace and account.scope = t.scope and account.what = t.what
        and (t.by in (select pid from fenced)) is true
    returning 0::bigint as pid
),
held as (
    insert into reservation (namespace, ticket, scope, what, pid, kernel, amount)
    select :namespace, t.ticket, t.scope, t.what, t.by, :kernel, t.held
    from :charges
    join account
        on account.namespace = :namespace and account.scope = t.scope and account.what = t.what
    where t.held is not null and (t.by in (select pid from fenced)) is true
    returning scope, what, amount
),
freed as (
    delete from reservation
    using (select * from :charges) as t
    where reservation.namespace = :namespace and reservation.ticket = t.ticket
        and reservation.scope = t.scope and reservation.what = t.what
        and t.spent is not null and (t.by in (select pid from fenced)) is true
    returning reservation.scope, reservation.what, reservation.amount
),
moved as (  -- :charges
    select scope, what, sum(held) as held, sum(freed) as freed, sum(spent) as spent
    from (
        select scope, what, amount as held, 0 as freed, 0 as spent from held
        union all select scope, what, 0, amount, 0 from freed
        union all
        select t.scope, t.what, 0, 0, t.spent
        from :charges
        where t.spent is not null and (t.by in (select pid from fenced)) is true
    ) as movement
    group by scope, what
),
audited as (  -- :charges
    -- In one order for all kernels, so that none waits for one that waits for it.
    select account.scope, account.what
    from moved
    join account
        on account.namespace = :namespace and account.scope = moved.scope
        and account.what = moved.what
    order by account.scope, account.what
    for update of account
),
balanced as (  -- :charges
    update account
    set
        used = account.used + moved.spent,
        reserved = greatest(0, account.reserved + moved.held - moved.freed),
        overdrawn = greatest(
            0, account.used + moved.spent + account.reserved - moved.freed - account.ceiling
        )
    from moved join audited using (scope, what)
    where account.namespace = :namespace and account.scope = moved.scope
        and account.what = moved.what
),
spent as (
    insert into spend (
        namespace, pid, tenant, model, day, currency, prompt, completion, cached, reasoning,
        money, calls, tool_calls
    )
    select
        :namespace, pid, tenant, model, day::date, currency, prompt, completion, cached,
        reasoning, money, calls, tool_calls
    from :spends
    where (pid in (select pid from fenced)) is true
    on conflict (namespace, pid, tenant, model, day, currency) do update
    set
        prompt = spend.prompt + excluded.prompt,
        completion = spend.completion + excluded.completion,
        cached = spend.cached + excluded.cached,
        reasoning = spend.reasoning + excluded.reasoning,
        money = spend.money + excluded.money,
        calls = spend.calls + excluded.calls,
        tool_calls = spend.tool_calls + excluded.tool_calls
),
rung as (  -- :ringing
    -- Whoever writes knows what it did itself; of the last five it does not.
    select pid
    from (
        select pid, :kernel as by from posted
        union select pid, :kernel from commanded
        union select pid, :kernel from ended
        union select pid, :kernel from offered
        union select pid, :kernel from announced
        union select pid, 0 from answered
        union select pid, 0 from doomed
        union select pid, 0 from awaiting
        union select pid, 0 from limited
        union select pid, 0 from lifted
    ) as called
    where pg_notify('aosk_' || md5(current_schema || '/' || :namespace), by || ' ' || pid) is null
),
remembered as (
    insert into memory (namespace, pid, tenant, text, tags, terms)
    select
        :namespace, t.pid, t.tenant, t.text,
        array(select jsonb_array_elements_text(t.tags::jsonb)),
        array(select jsonb_array_elements_text(t.terms::jsonb))
    from :memories
    where (t.by in (select pid from fenced)) is true
    order by t.place
),
understood as (
    insert into memory_vector (memory, embedder, dimensions, vector)
    select memory.number, t.embedder, t.dimensions, t.vector::halfvec
    from :vectors
    join memory on memory.number = t.memory
    where (t.by in (select pid from fenced)) is true
    order by memory.number
    on conflict (memory, embedder) do update
    set dimensions = excluded.dimensions, vector = excluded.vector
),
kept as (  -- of several of one key the last; one that lasts no time is as good as dropped
    insert into record (namespace, collection, key, body, until)
    select distinct on (t.collection, t.key)
        :namespace, t.collection, t.key, t.body, now() + t.lasts_s * interval '1 second'
    from :records
    where (t.by in (select pid from fenced)) is true
    order by t.collection, t.key, t.place desc
    on conflict (namespace, collection, key) do update
    set body = excluded.body, until = excluded.until, at = now()
)
select pid from fenced where not exists (select from rung)
