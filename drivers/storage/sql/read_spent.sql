select
    case $2 when 'agent' then pid::text when 'tenant' then tenant when 'model' then model
        else day::text end as whose,
    currency, sum(prompt)::bigint as prompt, sum(completion)::bigint as completion,
    sum(cached)::bigint as cached, sum(reasoning)::bigint as reasoning,
    sum(money)::bigint as money, sum(calls)::bigint as calls,
    sum(tool_calls)::bigint as tool_calls
from spend
where namespace = $1 and ($3::text is null or day >= $3::text::date)
group by 1, currency
order by case when $2 = 'agent' then min(pid) end, 1, currency
