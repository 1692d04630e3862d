-- Billing some members of a month again, and the month as of any of its revisions.

create or replace view revision_layer as
with recursive layer as (
    select month, revision, revision as layer, of_revision as below from revision
    union all
    select layer.month, layer.revision, below.revision, below.of_revision
    from layer
    join revision below on below.month = layer.month and below.revision = layer.below
)
select month, revision, layer, below from layer;

-- Which members a revision bills. Nobody else has an outcome in it.

alter table revision
    add column scope text not null default 'EVERYONE' check (scope in ('EVERYONE', 'RANGE', 'MEMBERS', 'QUARANTINED', 'LATE')),
    add column scope_from bigint not null default 1 check (scope_from > 0),
    add column scope_to bigint not null default 9223372036854775807,
    add column scope_listed boolean not null default false,
    add column month_billed bigint,
    add column month_quarantined bigint,
    add column month_total numeric,
    add check (scope_from <= scope_to),
    add check (scope_listed = (scope in ('MEMBERS', 'QUARANTINED', 'LATE'))),
    add check (scope = 'RANGE' or (scope_from = 1 and scope_to = 9223372036854775807)),
    add check (scope = 'EVERYONE' or of_revision is not null);
comment on column revision.members is 'Eligible members of the scope as counted at planning, before any of them was priced.';
comment on column revision.late_usage is 'Usage rows of the month, of members of the scope, that were loaded after the cut-off, counted at verification.';
comment on column revision.scope is 'Which members it bills. LATE: of whom something was loaded after the cut-off of the revision that was the highest live one.';
comment on column revision.scope_from is 'The first id of the scope; scope_to is the last one.';
comment on column revision.scope_listed is 'Of the ids from scope_from to scope_to, only those in scope_member are billed.';
comment on column revision.month_billed is 'Members with a bill in the whole month, once this revision is live: its own outcomes and those of the layers below. Written at verification, like month_quarantined and month_total.';

create table scope_member (
    month      text collate "C" not null,
    revision   integer not null,
    member_id  bigint not null check (member_id > 0),
    primary key (month, revision, member_id)
);
comment on table scope_member is 'The members that a list or selection consisted of when its run began.';

comment on table chunk is 'Spans of member ids, both ends inclusive, that tile the ids of the revision''s scope (all ids from 1 to 2^63-1, if it is no range); one transaction each. A claim is the row''s lock.';
comment on column chunk.billed is 'Members of the chunk and the scope with a bill, whether this revision wrote it or an earlier one. The other counts and sums are of the same members.';

-- Until now every revision was of all members.
update revision r
set month_billed = c.billed, month_quarantined = c.quarantined, month_total = c.total
from (select month, revision, sum(billed) as billed, sum(quarantined) as quarantined, sum(total_amount) as total
      from chunk group by month, revision) c
where c.month = r.month and c.revision = r.revision and r.verified_at is not null;

-- The month as of a revision, for the members of a range and, if that is asked for, of the revision's list: what that revision
-- wrote and, if it bills the month again, what the layers below it have of all other members. Functions and not views, so that
-- the planner leaves the layers out for a first billing, and looks for the outcomes of a higher layer within the range only. No
-- outcome of a first billing is above another.

create function bill_as_of(of_month text, as_of integer, rebilling boolean, listed boolean, from_id bigint, to_id bigint)
returns setof bill language sql stable as $$
    select * from bill where month = of_month and revision = as_of and member_id between from_id and to_id
      and (not listed or member_id in (select s.member_id from scope_member s where s.month = of_month and s.revision = as_of))
    union all
    select b.*
    from revision_layer l
    join bill b on b.month = l.month and b.revision = l.layer and b.member_id between from_id and to_id
    where rebilling and l.month = of_month and l.revision = as_of and l.layer < as_of
      and (not listed or b.member_id in (select s.member_id from scope_member s where s.month = of_month and s.revision = as_of))
      and not exists (
          select from revision_layer higher
          join outcome o on o.month = higher.month and o.revision = higher.layer and o.member_id between from_id and to_id
          where higher.month = of_month and higher.revision = as_of and higher.below is not null
            and higher.layer > b.revision and o.member_id = b.member_id)
$$;

create function bill_item_as_of(of_month text, as_of integer, rebilling boolean, listed boolean, from_id bigint, to_id bigint)
returns setof bill_item language sql stable as $$
    select * from bill_item where month = of_month and revision = as_of and member_id between from_id and to_id
      and (not listed or member_id in (select s.member_id from scope_member s where s.month = of_month and s.revision = as_of))
    union all
    select b.*
    from revision_layer l
    join bill_item b on b.month = l.month and b.revision = l.layer and b.member_id between from_id and to_id
    where rebilling and l.month = of_month and l.revision = as_of and l.layer < as_of
      and (not listed or b.member_id in (select s.member_id from scope_member s where s.month = of_month and s.revision = as_of))
      and not exists (
          select from revision_layer higher
          join outcome o on o.month = higher.month and o.revision = higher.layer and o.member_id between from_id and to_id
          where higher.month = of_month and higher.revision = as_of and higher.below is not null
            and higher.layer > b.revision and o.member_id = b.member_id)
$$;

create function quarantine_as_of(of_month text, as_of integer, rebilling boolean, listed boolean, from_id bigint, to_id bigint)
returns setof quarantined_member language sql stable as $$
    select * from quarantined_member where month = of_month and revision = as_of and member_id between from_id and to_id
      and (not listed or member_id in (select s.member_id from scope_member s where s.month = of_month and s.revision = as_of))
    union all
    select b.*
    from revision_layer l
    join quarantined_member b on b.month = l.month and b.revision = l.layer and b.member_id between from_id and to_id
    where rebilling and l.month = of_month and l.revision = as_of and l.layer < as_of
      and (not listed or b.member_id in (select s.member_id from scope_member s where s.month = of_month and s.revision = as_of))
      and not exists (
          select from revision_layer higher
          join outcome o on o.month = higher.month and o.revision = higher.layer and o.member_id between from_id and to_id
          where higher.month = of_month and higher.revision = as_of and higher.below is not null
            and higher.layer > b.revision and o.member_id = b.member_id)
$$;

create or replace view bill_history as
select b.month, b.member_id, b.revision, r.state, r.run,
       b.base_amount, b.usage_amount, b.discount_amount, b.adjustment_amount, b.tax_amount, b.rounding_amount, b.total_amount,
       (select i.currency from installation i) as currency, r.opened_at, r.issued_at, r.closed_at,
       k.run as rolled_back_by, r.reason, r.of_revision, r.rebill_reason, r.data_cutoff, r.price_book, r.decided_by,
       r.scope, r.scope_from, r.scope_to
from bill b
join revision r on r.month = b.month and r.revision = b.revision
left join rollback k on k.month = r.month and k.revision = r.revision;
comment on column bill_history.scope is 'Which members the revision billed: EVERYONE, a RANGE from scope_from to scope_to, listed MEMBERS, those QUARANTINED or those with LATE data.';
