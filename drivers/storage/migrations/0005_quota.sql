-- Accounts that quotas bound, what is reserved of them, and what calls have used.
-- Money is in billionths of a currency.

alter table process add column quotas bigint[] not null default '{}';

-- What does not fit breaks the constraint, and with it the commit that reserves it. What was
-- used may be more than was reserved: by so much the account is overdrawn.
create table account (
    namespace text not null,
    scope text not null,
    what text not null,
    ceiling bigint,
    configured bigint,  -- what the configuration said last
    used bigint not null default 0,
    reserved bigint not null default 0,
    lost bigint not null default 0,
    overdrawn bigint not null default 0,
    action text not null,
    instead text not null,
    primary key (namespace, scope, what),
    constraint account_holds check (used + reserved <= ceiling + overdrawn)
) with (fillfactor = 50);

create table reservation (
    namespace text not null,
    ticket bigint not null,
    scope text not null,
    what text not null,
    pid bigint not null,  -- 0: of an application, in this kernel
    kernel bigint not null,
    amount bigint not null,
    primary key (namespace, ticket, scope, what)
);
create index reservation_pid on reservation (pid);

create table spend (
    namespace text not null,
    pid bigint not null,
    tenant text not null,
    model text not null,
    day date not null,
    currency text not null,
    prompt bigint not null,
    completion bigint not null,
    cached bigint not null,
    reasoning bigint not null,
    money bigint not null,
    calls bigint not null,
    tool_calls bigint not null,
    primary key (namespace, pid, tenant, model, day, currency)
) with (fillfactor = 70);
create index spend_day on spend (namespace, day);
