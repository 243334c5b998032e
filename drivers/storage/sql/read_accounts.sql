select scope, what, ceiling, used, reserved, lost, overdrawn, action, instead
from account
where namespace = $1
order by scope, what
