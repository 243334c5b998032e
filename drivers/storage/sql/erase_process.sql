-- Null is the state of no program: whoever goes on with it is told. Names stay.
update process set state_json = 'null', result = null, error = null where pid = $1
