-- Which loads count: loads can be taken back, say which days they cover, and record what they brought. What is not
-- charged and what came late is counted for every kind of row.

-- A take-back is an event in the sequence of loads, so that a cut-off still says completely what counts: as of cut-off
-- N, the rows of the loads up to N, except those of loads that were taken back up to N.
alter table load
    drop constraint load_kind_check,
    add constraint load_kind_check check (kind in ('SEED', 'LOAD', 'TAKE_BACK')),
    add column taken_back_by bigint references load,
    add column reason text,
    add column days_from date,
    add column days_to date,
    add check (taken_back_by > number),
    add check (taken_back_by is null or state = 'FINISHED' and kind <> 'TAKE_BACK'),
    add check ((days_from is null) = (days_to is null) and days_from < days_to);
create index load_taken_back on load (taken_back_by) where taken_back_by is not null;
comment on column load.kind is 'TAKE_BACK: it brings no rows and takes those of another load back.';
comment on column load.taken_back_by is 'The TAKE_BACK that voids this load: its rows do not count for a cut-off at or after that number.';
comment on column load.reason is 'Why the other load was taken back.';
comment on column load.days_from is 'The first local date that the load covers, as its manifest says. Null: the manifest does not say.';
comment on column load.days_to is 'Exclusive.';

create table load_total (
    load        bigint not null references load,
    file        text collate "C" not null check (file in ('members', 'subscriptions', 'grants', 'adjustments', 'usage')),
    kind        text collate "C" not null default '',
    from_month  text collate "C" not null,
    to_month    text collate "C" not null,
    rows        bigint not null check (rows > 0),
    quantity    numeric,
    primary key (load, file, kind, from_month, to_month)
);
comment on table load_total is 'What each finished load wrote, by the months that it concerns, written in the transaction that finishes the load.';
comment on column load_total.kind is 'The kind of usage; for members NEW or CHANGED.';
comment on column load_total.from_month is 'The first month that the rows concern. Of a subscription or grant that was known: the first month in which it changes.';
comment on column load_total.to_month is 'The last month, inclusive; 2099-12 without an end.';
comment on column load_total.quantity is 'The sum of quantities (usage) or amounts (adjustments).';

create function record_load_totals(of_load bigint) returns void language sql as $$
    insert into load_total (load, file, kind, from_month, to_month, rows, quantity)
    select of_load, 'members', 'NEW', '2000-01', '2099-12', count(*), null::numeric from member where load = of_load having count(*) > 0
    union all
    select of_load, 'subscriptions', '', to_char(from_date, 'YYYY-MM'),
           case when to_date is null then '2099-12' else to_char(greatest(from_date, to_date - 1), 'YYYY-MM') end, count(*), null
    from subscription where load = of_load group by 4, 5
    union all
    select of_load, 'grants', '', to_char(from_date, 'YYYY-MM'),
           case when to_date is null then '2099-12' else to_char(greatest(from_date, to_date - 1), 'YYYY-MM') end, count(*), null
    from discount_grant where load = of_load group by 4, 5
    union all
    select of_load, 'adjustments', '', month, month, count(*), sum(amount) from adjustment where load = of_load group by month
    union all
    select of_load, 'usage', kind, month, month, count(*), sum(quantity) from usage where load = of_load group by month, kind
$$;
comment on function record_load_totals is 'Writes load_total from the rows of the load, which reads the tables as a whole: for loads that wrote to the tables directly.';

-- The loads before this version, each table read once.
insert into load_total (load, file, kind, from_month, to_month, rows, quantity)
select load, file, kind, from_month, to_month, count(*), sum(quantity)
from (
    select load, 'members' as file, 'NEW' as kind, '2000-01' as from_month, '2099-12' as to_month, null::bigint as quantity from member
    union all
    select load, 'subscriptions', '', to_char(from_date, 'YYYY-MM'),
           case when to_date is null then '2099-12' else to_char(greatest(from_date, to_date - 1), 'YYYY-MM') end, null
    from subscription
    union all
    select load, 'grants', '', to_char(from_date, 'YYYY-MM'),
           case when to_date is null then '2099-12' else to_char(greatest(from_date, to_date - 1), 'YYYY-MM') end, null
    from discount_grant
    union all
    select load, 'adjustments', '', month, month, amount from adjustment
    union all
    select load, 'usage', kind, month, month, quantity from usage
) stored
where load in (select number from load where state = 'FINISHED')
group by load, file, kind, from_month, to_month;

-- The same usage or adjustment can come again once the load that brought it is taken back. That standing loads do not
-- repeat each other is what the merge of a load looks at; loads run one at a time.
alter table adjustment drop constraint adjustment_pkey, add primary key (adjustment_id, load);

create or replace function index_usage_month(for_month text) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    leaf text := 'usage_' || replace(for_month, '-', '_');
begin
    if to_regclass(leaf) is null then
        raise exception 'month % has no usage partition', for_month;
    end if;
    -- Checked first, because even `if not exists` waits for sessions that write to the table.
    if to_regclass(leaf || '_identity') is null then
        execute format('create unique index if not exists %I on %I (usage_id, source, load)', leaf || '_identity', leaf);
    end if;
    if to_regclass(leaf || '_by_member') is null then
        execute format('create index if not exists %I on %I (member_id, started_at) include (quantity, load, kind)', leaf || '_by_member', leaf);
    end if;
    execute format('analyze %I', leaf);
end $$;

do $$
declare
    leaf text;
begin
    for leaf in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'usage'::regclass
    loop
        if to_regclass(leaf || '_identity') is not null then
            execute format('drop index %I', leaf || '_identity');
            execute format('create unique index %I on %I (usage_id, source, load)', leaf || '_identity', leaf);
        end if;
    end loop;
end $$;
comment on table usage is 'Calls, messages and data sessions, a partition for each local month; each has a unique index on (usage_id, source, load) and a covering one by member.';

alter table chunk
    add column not_charged_add_ons bigint,
    add column not_charged_adjustments bigint,
    add column not_charged_adjustment_amount numeric,
    add column not_charged_usage bigint;
comment on column chunk.not_charged_usage is 'Usage rows of members who are not eligible; a part of unbillable_usage. The other columns not_charged_* are of the same members.';

alter table revision
    add column add_ons text[],
    add column late jsonb;
comment on column revision.add_ons is 'The codes of the price book''s add-ons.';
comment on column revision.late is 'What was loaded or taken back after the cut-off and concerns the month, counted at verification. late_usage is its usage.';

create view loads as
select l.number, l.kind, l.source, case when l.taken_back_by is null then l.state else 'TAKEN_BACK' end as state,
       l.started_at, l.finished_at, l.days_from, l.days_to,
       coalesce(t.members, 0)::bigint as members, coalesce(t.subscriptions, 0)::bigint as subscriptions,
       coalesce(t.grants, 0)::bigint as grants, coalesce(t.adjustments, 0)::bigint as adjustments,
       coalesce(t.usage, 0)::bigint as usage, j.skipped as unchanged, j.failed as rejected, l.job,
       l.taken_back_by, b.finished_at as taken_back_at, b.reason as taken_back_reason
from load l
join job_log j on j.id = l.job
left join load b on b.number = l.taken_back_by
left join lateral (
    select sum(rows) filter (where file = 'members') as members, sum(rows) filter (where file = 'subscriptions') as subscriptions,
           sum(rows) filter (where file = 'grants') as grants, sum(rows) filter (where file = 'adjustments') as adjustments,
           sum(rows) filter (where file = 'usage') as usage
    from load_total where load = l.number) t on true;
comment on view loads is 'Every load, seed and take-back: its state, the days that it covers, how many rows of each file it wrote, and who took it back.';
comment on column loads.state is 'RUNNING, FINISHED, DEAD (it died before its end) or TAKEN_BACK.';
comment on column loads.taken_back_by is 'The number of the TAKE_BACK: for a data cut-off at or after it, the rows of this load do not count.';

create view highest_live_revision as
select distinct on (month) month, revision, run, data_cutoff, price_book, add_ons
from revision where state = 'LIVE'
order by month, revision desc;
comment on view highest_live_revision is 'The revision that a re-billing bills again and a rollback takes back.';

create function late_row(of_month text, cutoff bigint, up_to bigint)
returns table (file text, member_id bigint, taken_back boolean) language sql stable as $$
    with late as materialized (
        select number, false as taken_back from load
        where state = 'FINISHED' and number > cutoff and number <= up_to and (taken_back_by is null or taken_back_by > up_to)
        union all
        select number, true from load where number <= cutoff and taken_back_by > cutoff and taken_back_by <= up_to
    ), within as (
        select (of_month || '-01')::date as first_day, ((of_month || '-01')::date + interval '1 month')::date as next_first_day
    )
    select 'members', m.member_id, late.taken_back from late join member m on m.load = late.number
    where late.taken_back or not exists (
        select from member known where known.member_id = m.member_id and known.load < m.load
          and not exists (select from load l where l.number = known.load and l.taken_back_by <= up_to))
    union all
    select 'subscriptions', s.member_id, late.taken_back from within cross join late join subscription s on s.load = late.number
    where s.from_date < within.next_first_day
      and (s.to_date is null or s.to_date > greatest(s.from_date, within.first_day) or exists (
          select from (select b.to_date from subscription b
                       where b.member_id = s.member_id and b.plan_code = s.plan_code and b.from_date = s.from_date and b.load < s.load
                         and not exists (select from load l where l.number = b.load and l.taken_back_by <= up_to)
                       order by b.load desc limit 1) before
          where before.to_date is null or before.to_date > greatest(s.from_date, within.first_day)))
    union all
    select 'grants', g.member_id, late.taken_back from within cross join late join discount_grant g on g.load = late.number
    where g.from_date < within.next_first_day
      and (g.to_date is null or g.to_date > greatest(g.from_date, within.first_day) or exists (
          select from (select b.to_date from discount_grant b
                       where b.member_id = g.member_id and b.discount_code = g.discount_code and b.from_date = g.from_date and b.load < g.load
                         and not exists (select from load l where l.number = b.load and l.taken_back_by <= up_to)
                       order by b.load desc limit 1) before
          where before.to_date is null or before.to_date > greatest(g.from_date, within.first_day)))
    union all
    select 'adjustments', a.member_id, late.taken_back from late join adjustment a on a.load = late.number where a.month = of_month
    union all
    select 'usage', u.member_id, late.taken_back from late join usage u on u.load = late.number where u.month = of_month
$$;
comment on function late_row is 'Rows that concern a month and by which the data of two cut-offs differ: loaded or taken back after the first one, up to the second one. A subscription or grant concerns the month if it, or the version before it, has a day in it; of members only new ones count. It reads the tables: load_total has the same of all members.';

create view last_billing as
select month, revision, data_cutoff, add_ons, scope_from, scope_to, scope_listed from revision r
where state = 'LIVE' and not exists (
    select from revision higher
    where higher.month = r.month and higher.state = 'LIVE' and higher.scope = 'EVERYONE' and higher.revision > r.revision);
comment on view last_billing is 'The live revisions that can be the last one to have billed a member: the highest one of everyone, and those of some members above it.';

-- Of members without an outcome, which is what members who are not eligible are.
create view not_charged as
select r.month, r.revision, u.member_id, 'USAGE'::text as kind, u.kind as code, count(*) as rows,
       sum(u.quantity) as quantity, null::numeric as amount
from last_billing r
join usage u on u.month = r.month and u.load <= r.data_cutoff
where not exists (select from load l where l.number = u.load and l.taken_back_by <= r.data_cutoff)
  and not exists (select from live_bill b where b.month = r.month and b.member_id = u.member_id)
  and not exists (select from quarantine q where q.month = r.month and q.member_id = u.member_id)
  and u.member_id between r.scope_from and r.scope_to
  and (not r.scope_listed or exists (
      select from scope_member i where i.month = r.month and i.revision = r.revision and i.member_id = u.member_id))
  and not exists (
      select from last_billing h
      where h.month = r.month and h.revision > r.revision and u.member_id between h.scope_from and h.scope_to
        and (not h.scope_listed or exists (
            select from scope_member i where i.month = h.month and i.revision = h.revision and i.member_id = u.member_id)))
group by r.month, r.revision, u.member_id, u.kind
union all
select r.month, r.revision, a.member_id, 'ADJUSTMENT', a.code, count(*), null, sum(a.amount)
from last_billing r
join adjustment a on a.month = r.month and a.load <= r.data_cutoff
where not exists (select from load l where l.number = a.load and l.taken_back_by <= r.data_cutoff)
  and not exists (select from live_bill b where b.month = r.month and b.member_id = a.member_id)
  and not exists (select from quarantine q where q.month = r.month and q.member_id = a.member_id)
  and a.member_id between r.scope_from and r.scope_to
  and (not r.scope_listed or exists (
      select from scope_member i where i.month = r.month and i.revision = r.revision and i.member_id = a.member_id))
  and not exists (
      select from last_billing h
      where h.month = r.month and h.revision > r.revision and a.member_id between h.scope_from and h.scope_to
        and (not h.scope_listed or exists (
            select from scope_member i where i.month = h.month and i.revision = h.revision and i.member_id = a.member_id)))
group by r.month, r.revision, a.member_id, a.code
union all
select r.month, r.revision, s.member_id, 'ADDON', s.plan_code, count(*), null, null
from last_billing r
join subscription s on s.load <= r.data_cutoff
    and s.from_date < (r.month || '-01')::date + interval '1 month'
    and (s.to_date is null or s.to_date > greatest(s.from_date, (r.month || '-01')::date))
where not exists (select from load l where l.number = s.load and l.taken_back_by <= r.data_cutoff)
  and not exists (
      select from subscription later
      where later.member_id = s.member_id and later.plan_code = s.plan_code and later.from_date = s.from_date
        and later.load > s.load and later.load <= r.data_cutoff
        and not exists (select from load l where l.number = later.load and l.taken_back_by <= r.data_cutoff))
  and not exists (select from live_bill b where b.month = r.month and b.member_id = s.member_id)
  and not exists (select from quarantine q where q.month = r.month and q.member_id = s.member_id)
  and s.member_id between r.scope_from and r.scope_to
  and (not r.scope_listed or exists (
      select from scope_member i where i.month = r.month and i.revision = r.revision and i.member_id = s.member_id))
  and not exists (
      select from last_billing h
      where h.month = r.month and h.revision > r.revision and s.member_id between h.scope_from and h.scope_to
        and (not h.scope_listed or exists (
            select from scope_member i where i.month = h.month and i.revision = h.revision and i.member_id = s.member_id)))
  -- A revision of an earlier version does not have its add-ons: a known member without a base plan has nothing else.
  and (s.plan_code = any(r.add_ons)
    or r.add_ons is null and exists (select from member m where m.member_id = s.member_id and m.load <= r.data_cutoff))
group by r.month, r.revision, s.member_id, s.plan_code;
comment on view not_charged is 'Add-ons, adjustments and usage that nobody is charged for, because the member has no base plan in the month or is not known; as of the revision that billed the member last.';
comment on column not_charged.kind is 'ADDON, ADJUSTMENT or USAGE.';
comment on column not_charged.code is 'The code of the add-on or adjustment, or the kind of usage.';
comment on column not_charged.rows is 'Subscriptions, adjustments or usage rows.';
