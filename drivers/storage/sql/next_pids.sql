select nextval('pids')
