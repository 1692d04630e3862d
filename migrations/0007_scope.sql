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

-- The month as of a revision, for the members of a range: what that revision wrote and, if it bills the month again, what the
-- layers below it have of all other members. Functions and not views, so that the planner leaves the layers out for a first
-- billing, and looks for the outcomes of a higher layer within the range only. No outcome of a first billing is above another.

create function bill_as_of(of_month text, as_of integer, rebilling boolean, from_id bigint, to_id bigint) returns setof bill
language sql stable as $$
    select * from bill where month = of_month and revision = as_of and member_id between from_id and to_id
    union all
    select b.*
    from revision_layer l
    join bill b on b.month = l.month and b.revision = l.layer and b.member_id between from_id and to_id
    where rebilling and l.month = of_month and l.revision = as_of and l.layer < as_of
      and not exists (
          select from revision_layer higher
          join outcome o on o.month = higher.month and o.revision = higher.layer and o.member_id between from_id and to_id
          where higher.month = of_month and higher.revision = as_of and higher.below is not null
            and higher.layer > b.revision and o.member_id = b.member_id)
$$;

create function bill_item_as_of(of_month text, as_of integer, rebilling boolean, from_id bigint, to_id bigint) returns setof bill_item
language sql stable as $$
    select * from bill_item where month = of_month and revision = as_of and member_id between from_id and to_id
    union all
    select b.*
    from revision_layer l
    join bill_item b on b.month = l.month and b.revision = l.layer and b.member_id between from_id and to_id
    where rebilling and l.month = of_month and l.revision = as_of and l.layer < as_of
      and not exists (
          select from revision_layer higher
          join outcome o on o.month = higher.month and o.revision = higher.layer and o.member_id between from_id and to_id
          where higher.month = of_month and higher.revision = as_of and higher.below is not null
            and higher.layer > b.revision and o.member_id = b.member_id)
$$;

create function quarantine_as_of(of_month text, as_of integer, rebilling boolean, from_id bigint, to_id bigint) returns setof quarantined_member
language sql stable as $$
    select * from quarantined_member where month = of_month and revision = as_of and member_id between from_id and to_id
    union all
    select b.*
    from revision_layer l
    join quarantined_member b on b.month = l.month and b.revision = l.layer and b.member_id between from_id and to_id
    where rebilling and l.month = of_month and l.revision = as_of and l.layer < as_of
      and not exists (
          select from revision_layer higher
          join outcome o on o.month = higher.month and o.revision = higher.layer and o.member_id between from_id and to_id
          where higher.month = of_month and higher.revision = as_of and higher.below is not null
            and higher.layer > b.revision and o.member_id = b.member_id)
$$;
