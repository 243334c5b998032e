select scope, what, ceiling, used, reserved, lost, overdrawn, action, instead
from account
where namespace = $1
    and (
        $2
        or scope not like 'process:%'
        or exists (
            select from process
            where process.pid = substr(account.scope, 9)::bigint
                and process.state not in ('exited', 'failed', 'killed')
        )
    )
order by scope, what
