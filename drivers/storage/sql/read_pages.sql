-- An entry is looked up by its key for each page that points to one. As a join this took, until
-- the tables were analyzed, time that grew with the square of the pages. An erased text is null.
select
    number, role, pinned, tool_call_id, step, path,
    coalesce(
        text || rest,
        rest,
        (
            select coalesce(entry.body || entry.rest, entry.rest)
            from entry
            where entry.pid = page.pid and entry.step = page.step and entry.path = page.path
                and not entry.erased
        )
    ) as text
from page
where pid = $1 and number > $2
order by number
