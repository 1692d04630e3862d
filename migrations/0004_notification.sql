-- Notices: runs that tell members of their bills, the templates they tell it with, what each run is to tell, and the state
-- of each bill's delivery. Bills stay as they are: what is delivered lives apart from what was billed.

create table template_set (
    sha256   text primary key check (sha256 ~ '^[0-9a-f]{64}$'),
    content  jsonb not null,
    kept_at  timestamptz not null default now()
);
comment on table template_set is 'The exact templates of every run: file name to text.';

create table notification (
    id              bigint generated always as identity primary key,
    run             text not null,
    run_uid         uuid not null unique,
    month           text collate "C" not null,
    selection       text not null check (selection in ('READY', 'FAILED', 'UNKNOWN', 'CORRECTED')),
    from_member     bigint not null default 1,
    to_member       bigint not null default 9223372036854775807,
    member_ids      bigint[],
    rehearsal       boolean not null,
    templates       text not null references template_set,
    max_per_second  integer check (max_per_second > 0),
    paced_until     timestamptz,
    state           text not null default 'OPEN' check (state in ('OPEN', 'SUSPENDED', 'FINISHED', 'CANCELLED', 'FAILED')),
    selected        boolean not null default false,
    targets         bigint not null default 0,
    round           integer not null default 0,
    job             bigint not null references job_log,
    opened_at       timestamptz not null default now(),
    closed_at       timestamptz,
    reason          text,
    check ((state in ('OPEN', 'SUSPENDED')) = (closed_at is null))
);
comment on table notification is 'One row for each NotificationRun that began. Only an OPEN one sends.';
comment on column notification.member_ids is 'The scope, where it is a list; otherwise it is from_member to to_member, both inclusive.';
comment on column notification.paced_until is 'When the next message may go, with max_per_second: consumers take their slots by moving it on.';
comment on column notification.selected is 'All targets are written; what comes into question later is another run''s.';
comment on column notification.round is 'How often its targets were published: 1 the first time, more when some were still open at the end.';
comment on column notification.job is 'The batch of sending in job_log.';
comment on column notification.reason is 'Why it was cancelled or failed.';
create index notification_by_name on notification (run, id);

create table publication (
    notification  bigint not null references notification,
    round         integer not null check (round > 0),
    published_to  bigint not null default 0,
    messages      bigint not null default 0,
    waiting       text,
    job           bigint not null references job_log,
    opened_at     timestamptz not null default now(),
    done_at       timestamptz,
    primary key (notification, round)
);
comment on table publication is 'One row for each time that a run''s open targets are put on the topic.';
comment on column publication.published_to is 'Everything up to this member is acknowledged by the brokers.';
comment on column publication.waiting is 'What the publisher waits for, such as a broker that is away.';

create type delivery_state as enum ('PENDING', 'CLAIMED', 'HANDED_OVER', 'SENT', 'FAILED', 'UNKNOWN', 'SKIPPED');
create type notice_outcome as enum ('SENT', 'FAILED', 'UNKNOWN', 'SKIPPED', 'RENDERED');

create table notice_target (
    notification   bigint not null,
    member_id      bigint not null,
    revision       integer not null,
    after_attempt  integer not null,
    outcome        notice_outcome,
    reason         text,
    ended_at       timestamptz,
    month          text collate "C" not null,
    primary key (month, notification, member_id, revision),
    check ((outcome is null) = (ended_at is null))
) partition by list (month);
comment on table notice_target is 'What a run is to tell, and what came of it: written once, ended once. Rehearsals keep theirs here, as RENDERED, and touch no delivery.';
comment on column notice_target.after_attempt is 'The delivery''s attempts when the run chose it. Once another run has made one, this run makes none.';
comment on column notice_target.reason is 'Why it failed, is unknown or was skipped. Masked: never an address.';

create table delivery (
    member_id     bigint not null,
    revision      integer not null,
    attempt       integer not null,
    tries         integer not null default 0,
    notification  bigint not null,
    holder        bigint,
    lease_until   timestamptz,
    first_try_at  timestamptz,
    ended_at      timestamptz,
    state         delivery_state not null,
    before        delivery_state,
    channel       text collate "C" not null default 'EMAIL' check (channel in ('EMAIL')),
    reason        text,
    month         text collate "C" not null,
    primary key (month, member_id, revision, channel),
    check ((state in ('CLAIMED', 'HANDED_OVER')) = (lease_until is not null)),
    check (state not in ('SENT', 'FAILED', 'UNKNOWN', 'SKIPPED') or ended_at is not null)
) partition by list (month);
comment on table delivery is 'At most one row for each bill and channel: where its delivery stands. A bill without a row was never claimed.';
comment on column delivery.attempt is 'Runs that have taken the bill up and come to an end with it, plus one while a run has it.';
comment on column delivery.tries is 'Tries of this attempt that the server put off.';
comment on column delivery.holder is 'The consumer that holds the lease.';
comment on column delivery.lease_until is 'By the database''s clock. A claim past it is free again; a hand-over past it has an unknown outcome.';
comment on column delivery.before is 'What a claim that is given back returns to.';

create table consumer (
    id               bigint generated always as identity primary key,
    name             text not null,
    transport        text not null,
    trouble          text,
    trouble_since    timestamptz,
    started_at       timestamptz not null default now(),
    seen_at          timestamptz not null default now()
);
comment on table consumer is 'Processes that send: each says every few seconds that it lives, and what keeps it from sending.';

create function open_notice_month(for_month text) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    leaf text;
begin
    if for_month !~ '^20[0-9]{2}-(0[1-9]|1[0-2])$' then
        raise exception 'month % is not YYYY-MM in 2000 to 2099', for_month;
    end if;
    perform pg_advisory_xact_lock(hashtext('open notices ' || for_month));
    leaf := 'delivery_' || replace(for_month, '-', '_');
    if to_regclass(leaf) is null then
        -- Room on each page for the updates of its rows, and no index on what they change: they stay on their page.
        execute format('create table %I (like delivery including defaults including constraints) with (fillfactor = 45)', leaf);
        execute format('alter table %I add constraint of_month check (month = %L)', leaf, for_month);
        execute format('alter table delivery attach partition %I for values in (%L)', leaf, for_month);
        execute format('alter table %I drop constraint of_month', leaf);
        -- Statistics before the first row, as the first minute of a month's notices is too early for real ones: of nothing
        -- known, the planner takes one row in 200 to be of the month, and one in 200 of them of the channel. What was
        -- learnt outlives the rows.
        execute format('insert into %I (member_id, revision, attempt, notification, holder, ended_at, state, month)
                        select n, 1, 1, 0, n %% 4, now(), ''SENT'', %L from generate_series(1, 300) n', leaf, for_month);
        execute format('analyze %I', leaf);
        begin
            -- In a subtransaction it gets a new file, of whose size nothing is known: it isn't taken for empty for ever.
            execute format('truncate %I', leaf);
        exception when lock_not_available then
            raise;
        end;
    end if;
    leaf := 'notice_target_' || replace(for_month, '-', '_');
    if to_regclass(leaf) is null then
        execute format('create table %I (like notice_target including defaults including constraints) with (fillfactor = 70)', leaf);
        execute format('alter table %I add constraint of_month check (month = %L)', leaf, for_month);
        execute format('alter table notice_target attach partition %I for values in (%L)', leaf, for_month);
        execute format('alter table %I drop constraint of_month', leaf);
    end if;
end $$;
comment on function open_notice_month is 'Makes the month''s partitions of delivery and notice_target, for roles that own no table.';

create function analyze_notices(for_month text) returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    execute format('analyze %I', 'notice_target_' || replace(for_month, '-', '_'));
end $$;
comment on function analyze_notices is 'Lets the planner know of targets that were just chosen, for roles that own no table.';

-- A bill's status is its delivery's.
create or replace view live_bill as
select b.month, b.member_id, b.revision, r.run,
       case d.state when 'PENDING' then 'READY' when 'CLAIMED' then 'SENDING' when 'HANDED_OVER' then 'SENDING'
            else coalesce(d.state::text, 'READY') end as status,
       b.base_amount, b.usage_amount, b.discount_amount, b.adjustment_amount, b.tax_amount, b.rounding_amount, b.total_amount,
       (select i.currency from installation i) as currency, r.issued_at
from bill b
join revision r on r.month = b.month and r.revision = b.revision and r.state = 'LIVE'
left join delivery d on d.month = b.month and d.member_id = b.member_id and d.revision = b.revision and d.channel = 'EMAIL'
where not exists (
    select from revision later
    where later.month = b.month and later.revision > b.revision and later.state = 'LIVE'
      and (exists (select from bill o where o.month = later.month and o.member_id = b.member_id and o.revision = later.revision)
        or exists (select from quarantined_member q where q.month = later.month and q.member_id = b.member_id and q.revision = later.revision)));
