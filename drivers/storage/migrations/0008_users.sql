-- For whom of its tenant's users a process works; '' where that is nobody in particular.

alter table process add column user_id text not null default '';
