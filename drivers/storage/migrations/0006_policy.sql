-- What the policy holds processes to, and which rule let a call be made.

alter table process add column bounds text[] not null default '{}';  -- the outermost first
alter table intent add column rule text not null default '';
