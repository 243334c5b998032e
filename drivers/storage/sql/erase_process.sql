-- An empty state is that of no program: whoever goes on with it is told. Names stay.
update process set state_json = '', result = null, error = null where pid = $1
