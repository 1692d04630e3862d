-- Billing a month again: a revision over the live one, with an outcome for those members only whose outcome changes.

alter table revision
    add column of_revision integer,
    add column rebill_reason text,
    add foreign key (month, of_revision) references revision,
    add check (of_revision < revision),
    add check ((of_revision is null) = (rebill_reason is null));
comment on column revision.of_revision is 'The highest live revision when this one was planned: this one bills the month again. Null: the month''s first billing.';
comment on column revision.rebill_reason is 'Why the month is billed again.';

alter table chunk add column changed bigint;
comment on column chunk.billed is 'Members of the chunk with a bill, whether this revision wrote it or an earlier one. The other counts and sums are of the same members.';
comment on column chunk.changed is 'Outcomes that this revision wrote. Null: as many as members (a chunk of a version that bills a month only once).';

create table ineligible_member (
    month      text collate "C" not null,
    member_id  bigint not null,
    revision   integer not null,
    primary key (month, member_id, revision)
);
comment on table ineligible_member is 'Members who had an outcome in an earlier live revision and are no longer eligible in this one.';

create view outcome as
select month, member_id, revision from bill
union all
select month, member_id, revision from quarantined_member
union all
select month, member_id, revision from ineligible_member;
comment on view outcome is 'Which revision has an outcome for which member: a bill, a quarantine record, or no longer eligible. At most one each.';

create view revision_layer as
with recursive layer as (
    select month, revision, revision as layer, of_revision as below from revision
    union all
    select layer.month, layer.revision, below.revision, below.of_revision
    from layer
    join revision below on below.month = layer.month and below.revision = layer.below
)
select month, revision, layer from layer;
comment on view revision_layer is 'The revisions that make up the month as of a revision: itself, the one that it bills again, and so on. For each member the outcome of the highest layer counts.';

-- One anti-join with all outcomes, whatever their kind: the planner hashes them for a whole month, and looks them up by
-- their key for a member or a page of members.

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
    join outcome o on o.month = later.month and o.revision = later.revision
    where later.month = b.month and later.revision > b.revision and later.state = 'LIVE' and o.member_id = b.member_id);

create or replace view live_bill_item as
select i.month, i.member_id, i.revision, i.line_no, i.kind::text as kind, i.code, i.quantity, i.amount,
       i.days, i.used_quantity, i.free_allowance
from bill_item i
join revision r on r.month = i.month and r.revision = i.revision and r.state = 'LIVE'
where not exists (
    select from revision later
    join outcome o on o.month = later.month and o.revision = later.revision
    where later.month = i.month and later.revision > i.revision and later.state = 'LIVE' and o.member_id = i.member_id);

create or replace view quarantine as
select q.month, q.revision, r.run, q.member_id, q.code, q.detail
from quarantined_member q
join revision r on r.month = q.month and r.revision = q.revision and r.state = 'LIVE'
where not exists (
    select from revision later
    join outcome o on o.month = later.month and o.revision = later.revision
    where later.month = q.month and later.revision > q.revision and later.state = 'LIVE' and o.member_id = q.member_id);

create or replace view bill_history as
select b.month, b.member_id, b.revision, r.state, r.run,
       b.base_amount, b.usage_amount, b.discount_amount, b.adjustment_amount, b.tax_amount, b.rounding_amount, b.total_amount,
       (select i.currency from installation i) as currency, r.opened_at, r.issued_at, r.closed_at,
       k.run as rolled_back_by, r.reason, r.of_revision, r.rebill_reason, r.data_cutoff, r.price_book, r.decided_by
from bill b
join revision r on r.month = b.month and r.revision = b.revision
left join rollback k on k.month = r.month and k.revision = r.revision;
comment on column bill_history.of_revision is 'The live revision that this one billed again. Null: the month''s first billing.';
comment on column bill_history.rebill_reason is 'Why the month was billed again.';
comment on column bill_history.data_cutoff is 'The last load that counted.';
comment on column bill_history.price_book is 'The SHA-256 of the price book''s text in price_book.';
comment on column bill_history.decided_by is 'Who approved the draft, if that was asked for.';
