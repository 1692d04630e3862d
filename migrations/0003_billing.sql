-- Revisions of a month, their chunks, bills and items. Bills and items are only ever inserted; issuing, rejecting and
-- rolling back a revision is one guarded update of its row.

create table price_book (
    sha256   text primary key check (sha256 ~ '^[0-9a-f]{64}$'),
    version  text not null,
    content  text not null,
    kept_at  timestamptz not null default now()
);
comment on table price_book is 'The exact text of every price book that a revision was billed with.';

create table month_lock (
    month    text collate "C" primary key,
    fence    bigint not null,
    run      text,
    run_uid  uuid,
    since    timestamptz not null default now(),
    check ((run is null) = (run_uid is null))
);
comment on table month_lock is 'At most one unfinished run for a month. The fence rises with each new holder; a writer of an older one changes nothing.';

create table revision (
    month         text collate "C" not null,
    revision      integer not null check (revision > 0),
    run           text not null,
    run_uid       uuid not null unique,
    state         text not null default 'DRAFT' check (state in ('DRAFT', 'LIVE', 'REJECTED', 'ROLLED_BACK')),
    fence         bigint not null,
    data_cutoff   bigint not null,
    price_book    text not null references price_book,
    chunk_size    integer not null check (chunk_size > 0),
    shards        integer not null check (shards > 0),
    members       bigint not null check (members >= 0),
    job           bigint not null references job_log,
    opened_at     timestamptz not null default now(),
    verified_at   timestamptz,
    verification  jsonb,
    late_usage    bigint,
    digest        text,
    issued_at     timestamptz,
    closed_at     timestamptz,
    decided_by    text,
    reason        text,
    primary key (month, revision)
);
comment on table revision is 'One row for each revision of a month: its run, pinned inputs, state, who and why. Numbers are taken at planning and never reused.';
comment on column revision.data_cutoff is 'The last load that counts.';
comment on column revision.members is 'Eligible members as counted at planning, before any of them was priced.';
comment on column revision.verification is 'The list of checks made after the last chunk: check, passed, detail.';
comment on column revision.late_usage is 'Usage rows of the month that were loaded after the cut-off, counted at verification.';
comment on column revision.digest is 'SHA-256 over the chunks'' digests in their order.';

create table chunk (
    month              text collate "C" not null,
    revision           integer not null,
    chunk_no           integer not null,
    shard              integer not null,
    from_member        bigint not null,
    to_member          bigint not null,
    members            integer not null,
    state              text not null default 'PENDING' check (state in ('PENDING', 'DONE')),
    billed             bigint,
    quarantined        bigint,
    items              bigint,
    rated_usage        bigint,
    unbillable_usage   bigint,
    quarantined_usage  bigint,
    base_amount        numeric,
    usage_amount       numeric,
    discount_amount    numeric,
    adjustment_amount  numeric,
    tax_amount         numeric,
    rounding_amount    numeric,
    total_amount       numeric,
    digest             bytea,
    worker             text,
    started_at         timestamptz,
    done_at            timestamptz,
    primary key (month, revision, chunk_no),
    foreign key (month, revision) references revision,
    check (from_member <= to_member)
) with (fillfactor = 50);
comment on table chunk is 'Spans of member ids, both ends inclusive, that tile all ids from 1 to 2^63-1; one transaction each. A claim is the row''s lock.';
comment on column chunk.members is 'Eligible members planned.';

create type item_kind as enum ('BASE', 'USAGE', 'ADDON', 'DISCOUNT', 'ADJUSTMENT', 'TAX', 'ROUNDING');

create table bill (
    member_id          bigint not null,
    base_amount        bigint not null,
    usage_amount       bigint not null,
    discount_amount    bigint not null,
    adjustment_amount  bigint not null,
    tax_amount         bigint not null,
    rounding_amount    bigint not null,
    total_amount       bigint not null,
    revision           integer not null,
    month              text collate "C" not null,
    primary key (month, member_id, revision)
) partition by list (month);

create table bill_item (
    member_id       bigint not null,
    quantity        bigint not null,
    amount          bigint not null,
    used_quantity   bigint,
    free_allowance  bigint,
    revision        integer not null,
    line_no         integer not null,
    days            integer,
    kind            item_kind not null,
    code            text collate "C" not null,
    month           text collate "C" not null,
    primary key (month, member_id, revision, line_no)
) partition by list (month);
comment on column bill_item.days is 'Days of the segment (base fee, add-on, usage) or of the grant (discount).';
comment on column bill_item.used_quantity is 'What was used of the kind in the segment, in raw units.';
comment on column bill_item.free_allowance is 'What of it the plan gave free, in raw units.';

create table quarantined_member (
    month      text collate "C" not null,
    member_id  bigint not null,
    revision   integer not null,
    code       text not null,
    detail     text not null,
    primary key (month, member_id, revision)
);

-- Partitions, for roles that own no table. A partition is made aside and attached, which does not block readers.

create function open_usage_month(for_month text) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    leaf text := 'usage_' || replace(for_month, '-', '_');
begin
    if for_month !~ '^20[0-9]{2}-(0[1-9]|1[0-2])$' then
        raise exception 'month % is not YYYY-MM in 2000 to 2099', for_month;
    end if;
    perform pg_advisory_xact_lock(hashtext('open ' || leaf));
    if to_regclass(leaf) is null then
        execute format('create table %I (like usage including defaults including constraints) with (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000)', leaf);
        execute format('alter table %I add constraint of_month check (month = %L)', leaf, for_month);
        execute format('alter table usage attach partition %I for values in (%L)', leaf, for_month);
        execute format('alter table %I drop constraint of_month', leaf);
    end if;
end $$;
comment on function open_usage_month is 'Makes the month''s usage partition if it is not there, without indexes: index_usage_month adds them.';

create function index_usage_month(for_month text) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    leaf text := 'usage_' || replace(for_month, '-', '_');
begin
    if to_regclass(leaf) is null then
        raise exception 'month % has no usage partition', for_month;
    end if;
    -- Looked for first: even `if not exists` waits for whoever writes to the table.
    if to_regclass(leaf || '_identity') is null then
        execute format('create unique index if not exists %I on %I (usage_id, source)', leaf || '_identity', leaf);
    end if;
    if to_regclass(leaf || '_by_member') is null then
        execute format('create index if not exists %I on %I (member_id, started_at) include (quantity, load, kind)', leaf || '_by_member', leaf);
    end if;
    execute format('analyze %I', leaf);
end $$;

create function open_billing_month(for_month text) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    parent text;
    leaf text;
begin
    if for_month !~ '^20[0-9]{2}-(0[1-9]|1[0-2])$' then
        raise exception 'month % is not YYYY-MM in 2000 to 2099', for_month;
    end if;
    perform pg_advisory_xact_lock(hashtext('open billing ' || for_month));
    foreach parent in array array['bill', 'bill_item'] loop
        leaf := parent || '_' || replace(for_month, '-', '_');
        if to_regclass(leaf) is null then
            execute format('create table %I (like %I including defaults including constraints)', leaf, parent);
            execute format('alter table %I add constraint of_month check (month = %L)', leaf, for_month);
            execute format('alter table %I attach partition %I for values in (%L)', parent, leaf, for_month);
            execute format('alter table %I drop constraint of_month', leaf);
        end if;
    end loop;
    perform open_usage_month(for_month);
    perform index_usage_month(for_month);
end $$;

create function analyze_reference_data() returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    analyze member;
    analyze subscription;
    analyze discount_grant;
    analyze adjustment;
end $$;

create function sweep_dead_load(dead bigint) returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform from load where number = dead and state = 'RUNNING' for update;
    if not found then
        raise exception 'load % is not unfinished, so nothing of it may be swept away', dead using errcode = 'object_not_in_prerequisite_state';
    end if;
    delete from member where load = dead;
    delete from subscription where load = dead;
    delete from discount_grant where load = dead;
    delete from adjustment where load = dead;
    delete from usage where load = dead;
    update load set state = 'DEAD' where number = dead;
end $$;
comment on function sweep_dead_load is 'Deletes what an unfinished load brought before it died, for a role that may delete nothing itself.';

-- What anyone may read.

create view live_bill as
select b.month, b.member_id, b.revision, r.run, 'READY'::text as status,
       b.base_amount, b.usage_amount, b.discount_amount, b.adjustment_amount, b.tax_amount, b.rounding_amount, b.total_amount,
       (select i.currency from installation i) as currency, r.issued_at
from bill b
join revision r on r.month = b.month and r.revision = b.revision and r.state = 'LIVE'
where not exists (
    select from revision later
    where later.month = b.month and later.revision > b.revision and later.state = 'LIVE'
      and (exists (select from bill o where o.month = later.month and o.member_id = b.member_id and o.revision = later.revision)
        or exists (select from quarantined_member q where q.month = later.month and q.member_id = b.member_id and q.revision = later.revision)));
comment on view live_bill is 'At most one row for each member and month: the bill in the highest live revision that has an outcome for the member.';

create view live_bill_item as
select i.month, i.member_id, i.revision, i.line_no, i.kind::text as kind, i.code, i.quantity, i.amount,
       i.days, i.used_quantity, i.free_allowance
from bill_item i
join revision r on r.month = i.month and r.revision = i.revision and r.state = 'LIVE'
where not exists (
    select from revision later
    where later.month = i.month and later.revision > i.revision and later.state = 'LIVE'
      and (exists (select from bill o where o.month = later.month and o.member_id = i.member_id and o.revision = later.revision)
        or exists (select from quarantined_member q where q.month = later.month and q.member_id = i.member_id and q.revision = later.revision)));

create view bill_history as
select b.month, b.member_id, b.revision, r.state, r.run,
       b.base_amount, b.usage_amount, b.discount_amount, b.adjustment_amount, b.tax_amount, b.rounding_amount, b.total_amount,
       (select i.currency from installation i) as currency, r.opened_at, r.issued_at, r.closed_at
from bill b
join revision r on r.month = b.month and r.revision = b.revision;

create view quarantine as
select q.month, q.revision, r.run, q.member_id, q.code, q.detail
from quarantined_member q
join revision r on r.month = q.month and r.revision = q.revision and r.state = 'LIVE'
where not exists (
    select from revision later
    where later.month = q.month and later.revision > q.revision and later.state = 'LIVE'
      and (exists (select from bill o where o.month = later.month and o.member_id = q.member_id and o.revision = later.revision)
        or exists (select from quarantined_member n where n.month = later.month and n.member_id = q.member_id and n.revision = later.revision)));
