-- Differences that a re-billing posts to a later month, where it leaves the bills of members as they are who were sent theirs.

alter table revision
    add column after_sent text not null default 'REVISE' check (after_sent in ('REVISE', 'ADJUST')),
    add column posts_to text collate "C",
    add check (after_sent = 'REVISE' or of_revision is not null),
    add check (posts_to > month),
    add check (posts_to is null or state in ('LIVE', 'ROLLED_BACK'));
create index revision_posts_to on revision (posts_to) where posts_to is not null;
comment on column revision.after_sent is 'ADJUST: a bill that was sent stays, and the difference goes to a later month.';
comment on column revision.posts_to is 'The month that bills what this revision has in posted_difference: when it was issued, the first later month without a live revision and without an unfinished run. Null: it has nothing there, or was never issued.';

alter table chunk
    add column posted bigint,
    add column posted_amount numeric;
comment on column chunk.posted is 'Rows that the chunk wrote to posted_difference; posted_amount is their sum.';

create table posted_difference (
    month      text collate "C" not null,
    revision   integer not null,
    member_id  bigint not null,
    amount     bigint not null check (amount <> 0),
    primary key (month, revision, member_id)
);
comment on table posted_difference is 'What a re-billing posts for a member to revision.posts_to, written with its chunks; insert-only. It counts while the revision is live. For each member the sum over the live revisions of a month is what the member owes for it, less the live bill.';

create view posted_adjustment as
select r.posts_to as month, d.member_id, 'CORRECTION'::text as code, d.amount,
       format('%s revision %s', d.month, d.revision) as reason, d.month as from_month, d.revision as from_revision
from revision r
join posted_difference d on d.month = r.month and d.revision = r.revision
where r.state = 'LIVE' and r.posts_to is not null;
comment on view posted_adjustment is 'The adjustments of a month that live re-billings of earlier months have posted to it. No cut-off leaves one out: nothing is posted to a month, or taken away, while it is live or being billed.';

-- The only place that says which bill counts as sent. An outcome that is not known, or not known yet, counts, also while the bill
-- is claimed to be sent again.
create function counts_as_sent(state delivery_state, before delivery_state) returns boolean language sql immutable as $$
    select state in ('SENT', 'UNKNOWN', 'HANDED_OVER') or state = 'CLAIMED' and before = 'UNKNOWN'
$$;
comment on function counts_as_sent is 'Whether a bill with a delivery in this state was sent, or may have been.';

create or replace function other_sent_bill(for_month text, of_member bigint, besides integer)
returns table (revision integer, state delivery_state) language sql stable as $$
    select d.revision, case d.state when 'CLAIMED' then d.before else d.state end from delivery d
    where d.month = for_month and d.member_id = of_member and d.revision <> besides and d.channel = 'EMAIL'
      and counts_as_sent(d.state, d.before)
    order by d.state = 'HANDED_OVER' desc, d.ended_at desc
    limit 1
$$;

-- Of members without an outcome, which is what members who are not eligible are.
create or replace view not_charged as
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
select r.month, r.revision, a.member_id, 'ADJUSTMENT', a.code, count(*), null, sum(a.amount)
from last_billing r
join posted_adjustment a on a.month = r.month
where not exists (select from live_bill b where b.month = r.month and b.member_id = a.member_id)
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
