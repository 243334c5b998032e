select question.*
from question
join process using (pid)
where question.namespace = $1
    and (
        question.number = $2
        or (question.pid = $3 and question.step = $4 and question.path = $5)
        or (
            $2::bigint is null and $3::bigint is null
            and question.answer is null and not question.closed
            and process.state not in ('exited', 'failed', 'killed')
        )
    )
order by question.number
