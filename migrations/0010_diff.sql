-- What a re-billing changes: one row for each outcome that it writes, with the outcome before and the cause.

create type change_cause as enum ('PRICE_BOOK', 'PLAN', 'ADDON', 'DISCOUNT', 'ADJUSTMENT', 'LATE_USAGE', 'USAGE', 'QUARANTINE',
                                  'MORE_THAN_ONE', 'CALCULATION');
create type outcome_kind as enum ('NONE', 'BILLED', 'QUARANTINED');

create table bill_change (
    member_id       bigint not null,
    before_total    bigint,
    after_total     bigint,
    revision        integer not null,
    before_outcome  outcome_kind not null,
    after_outcome   outcome_kind not null,
    cause           change_cause not null,
    month           text collate "C" not null,
    primary key (month, member_id, revision),
    check ((before_total is null) = (before_outcome <> 'BILLED')),
    check ((after_total is null) = (after_outcome <> 'BILLED')),
    check (before_outcome <> 'NONE' or after_outcome <> 'NONE'),
    check ((cause = 'QUARANTINE') = (before_outcome = 'QUARANTINED' or after_outcome = 'QUARANTINED'))
) partition by list (month);
comment on table bill_change is 'One row for each outcome of a re-billing, written with it; insert-only. The view bill_diff shows it.';
comment on column bill_change.before_outcome is 'The member''s live outcome when the re-billing began. NONE: neither a bill nor a quarantine record.';
comment on column bill_change.after_outcome is 'The outcome that the re-billing writes. NONE: the member is no longer eligible.';

alter table revision add column diff jsonb;
comment on column revision.diff is 'The summary of bill_change, computed at verification. Null: a first billing, or not verified.';

create or replace function open_billing_month(for_month text) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    parent text;
    leaf text;
begin
    if for_month !~ '^20[0-9]{2}-(0[1-9]|1[0-2])$' then
        raise exception 'month % is not YYYY-MM in 2000 to 2099', for_month;
    end if;
    perform pg_advisory_xact_lock(hashtext('open billing ' || for_month));
    foreach parent in array array['bill', 'bill_item', 'bill_change'] loop
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

-- What anyone may read, of drafts too.

create view bill_diff as
select c.month, c.revision, r.state, r.of_revision, c.member_id,
       case when c.before_outcome = 'NONE' then 'ADDED' when c.after_outcome = 'NONE' then 'REMOVED' else 'CHANGED' end as change,
       c.before_outcome::text as before_outcome, c.before_total, c.after_outcome::text as after_outcome, c.after_total,
       -- The difference of two amounts can exceed 64 bits.
       coalesce(c.after_total, 0)::numeric - coalesce(c.before_total, 0) as delta,
       c.cause::text as cause
from bill_change c
join revision r on r.month = c.month and r.revision = c.revision;
comment on view bill_diff is 'Whose outcome a re-billing changes, from what to what, and why. Who is not in it keeps the outcome.';
comment on column bill_diff.change is 'ADDED: had neither a bill nor a quarantine record. REMOVED: has neither any more. CHANGED: any other change.';
comment on column bill_diff.delta is 'The total after less the total before; no bill counts as 0.';

create view bill_diff_histogram as
select month, revision, state,
       -- A power of ten, to below the next one.
       case when delta > 0 then power when delta < 0 then 1 - 10 * power else 0 end as from_delta,
       case when delta > 0 then 10 * power - 1 when delta < 0 then -power else 0 end as to_delta,
       count(*) as members, sum(delta) as delta
from (select d.*, ('1' || repeat('0', length(abs(delta)::text) - 1))::numeric as power from bill_diff d) d
group by 1, 2, 3, 4, 5;
comment on view bill_diff_histogram is 'The deltas of a re-billing by size: 1 to 9 minor units, 10 to 99, and so on, the same below zero, and zero.';

create view bill_diff_movers as
select month, revision, state, place, member_id, change, before_outcome, before_total, after_outcome, after_total, delta, cause
from (select d.*, row_number() over (partition by month, revision order by abs(delta) desc, member_id) as place
      from bill_diff d where delta <> 0) d
where place <= 10;
comment on view bill_diff_movers is 'The ten members of a re-billing whose totals change most.';
