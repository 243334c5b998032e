-- namespace, name, holder, kernel, turn, places, used, wants, most, patience_s; under the lock.
-- A kernel whose lease has run out holds nothing, and is given nothing. Whoever has waited longer
-- has one place left for it each; who asks for a block shares while others wait.
with
moment as materialized (
    select clock_timestamp() as now
),
living as materialized (
    select id, until from kernel, moment where namespace = $1 and until > now
),
gone as (
    delete from seat
    where namespace = $1 and name = $2 and holder <> $3 and kernel not in (select id from living)
),
mine as (
    select held, case when waits_until > now then waits_since end as since
    from moment
    left join seat on namespace = $1 and name = $2 and holder = $3
        and kernel in (select id from living)
),
others as (
    select held, waits_since, coalesce(waits_until > now, false) as waits, until
    from seat
    join living on living.id = seat.kernel
    cross join moment
    where namespace = $1 and name = $2 and holder <> $3
),
standing as (
    select
        greatest($6::integer - coalesce(sum(held), 0), 0)::integer as room,
        (count(*) filter (
            where waits and waits_since < (select coalesce(since, now) from mine, moment)
        ))::integer as ahead,
        coalesce(bool_or(waits), false) as wanted,
        ($6::integer / (1 + count(*) filter (where held > 0 or waits)))::integer as share,
        extract(epoch from min(until) filter (where held > 0))::float8 as lapse_at
    from others
),
asked as (
    select
        *,
        case
            when not $8::boolean then least($9::integer, room)
            when room - ahead <= $7::integer then least($7::integer, room)
            when wanted then least(room - ahead, greatest($7::integer + 1, least($9::integer, share)))
            else least(room - ahead, $9::integer)
        end as held
    from standing
),
kept as (
    insert into seat (
        namespace, name, holder, kernel, turn, held, places, waits_since, waits_until, heard_at
    )
    select
        $1, $2, $3, living.id, $5::bigint, held, $6::integer,
        case when waits then coalesce(since, now) end,
        case when waits then now + $10::float8 * interval '1 second' end,
        now
    from living
    cross join moment
    cross join (select held, $8::boolean and held <= $7::integer as waits from asked) as granted
    cross join (select since from mine) as before
    where living.id = $4
    on conflict (namespace, name, holder) do update
    set kernel = excluded.kernel, turn = excluded.turn, held = excluded.held,
        places = excluded.places, waits_since = excluded.waits_since,
        waits_until = excluded.waits_until, heard_at = excluded.heard_at
    where seat.turn < excluded.turn
    returning held, waits_since is not null as waits
)
select
    kept.held,
    asked.share,
    asked.wanted,
    extract(epoch from living.until - now)::float8 as good_s,
    coalesce(asked.lapse_at - extract(epoch from now)::float8, 'infinity') as lapses_s,
    case
        when kept.waits or freed then pg_notify(
            'aosk_seats_' || md5(current_schema || '/' || $1),
            concat_ws(' ', $3, kept.waits, freed, asked.share, $2)
        )::text
    end as told
from kept
cross join asked
cross join moment
cross join mine
cross join lateral (
    select asked.wanted and kept.held < coalesce(mine.held, 0) as freed
) as change
join living on living.id = $4
