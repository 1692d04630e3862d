-- The reference for billing: bills the whole month with one statement on one connection, into the same tables with the
-- same indexes. It follows the pricing contract, but leaves out what the data of `monthend seed` does not need: quarantine
-- and joining of adjacent subscriptions. It prorates discounts over the month, and computes no counts, digests or checks.
-- Parameters: month, revision, first day, day after the last day, first instant, end, cut-off, time zone. The prices are
-- in the tables reference_*.
with version as (
    select distinct on (member_id, plan_code, from_date) member_id, plan_code, from_date, to_date
    from subscription
    where load <= $7 and from_date < $4
    order by member_id, plan_code, from_date, load desc
), segment as (
    select member_id, plan_code, base, fee, from_day, to_day - from_day as days,
           sum(to_day - from_day) over (partition by member_id, plan_code order by from_day) as so_far,
           from_day::timestamp at time zone $8 as from_time, to_day::timestamp at time zone $8 as to_time
    from (select v.member_id, v.plan_code, p.base, p.fee, greatest(from_date, $3) as from_day,
                 least(coalesce(to_date, $4), $4) as to_day
          from version v join reference_plan p on p.code = v.plan_code) clipped
    where to_day > from_day
), fees as (
    select member_id, from_day, base, plan_code as code, days,
           round(fee * so_far / ($4 - $3)::numeric) - round(fee * (so_far - days) / ($4 - $3)::numeric) as amount
    from segment
), used as (
    select s.member_id, s.plan_code, s.from_day, s.days, s.so_far, u.kind, sum(u.quantity) as quantity
    from usage u
    join segment s on s.member_id = u.member_id and s.base and u.started_at >= s.from_time and u.started_at < s.to_time
    where u.month = $1 and u.load <= $7 and u.started_at >= $5 and u.started_at < $6
    group by s.member_id, s.plan_code, s.from_day, s.days, s.so_far, u.kind
), overage as (
    select member_id, from_day, kind, days, quantity, free, ceil(greatest(quantity - free, 0) / r.per) as blocks, r.cap, r.plan
    from used
    join reference_rate r on r.plan = plan_code and r.usage_kind = kind
    cross join lateral (select floor(r.allowance * so_far / ($4 - $3)) - floor(r.allowance * (so_far - days) / ($4 - $3)) as free) f
), charges as (
    select member_id, from_day, kind, days, quantity, free, blocks,
           least(cap, round((select sum((least(blocks, t.up_to) - t.above) * t.rate) from reference_tier t
                             where t.plan = o.plan and t.usage_kind = o.kind and t.above < o.blocks))) as amount
    from overage o
    where blocks > 0
), sums as materialized (
    select member_id, sum(base) as base, sum(overage) as overage
    from (select member_id, amount as base, 0 as overage from fees
          union all select member_id, 0, amount from charges) amounts
    group by member_id
), granted as (
    select g.member_id, d.code, d.priority, d.target, d.percent, d.value, d.cap, d.prorate,
           sum(least(coalesce(to_date, $4), $4) - greatest(from_date, $3)) as days
    from (select distinct on (member_id, discount_code, from_date) member_id, discount_code, from_date, to_date
          from discount_grant where load <= $7 and from_date < $4
          order by member_id, discount_code, from_date, load desc) g
    join reference_discount d on d.code = g.discount_code
    where to_date is null or to_date > greatest(from_date, $3)
    group by g.member_id, d.code, d.priority, d.target, d.percent, d.value, d.cap, d.prorate
), wanted as (
    select member_id, code, priority, g.days, base + overage as all_room,
           least(cap, round(case when percent then case target when 'base' then base when 'usage' then overage else base + overage end
                                                   * value / 100 else value end
                            * case when prorate then g.days / ($4 - $3)::numeric else 1 end)) as wanted
    from granted g join sums using (member_id)
), discounts as (
    select member_id, code, priority, days,
           greatest(0, least(wanted, all_room - coalesce(sum(wanted) over (partition by member_id order by priority, code
                                                         rows between unbounded preceding and 1 preceding), 0))) as amount
    from wanted
), items as materialized (
    select member_id, case when base then 1 else 2 end as class, from_day, code, case when base then 'BASE' else 'ADDON' end as kind,
           days::numeric as quantity, amount, days, null::numeric as used, null::numeric as free
    from fees
    union all
    select member_id, 1, from_day, kind, 'USAGE', blocks, amount, days, quantity, free from charges
    union all
    select member_id, 3, date '2000-01-01' + priority::int, code, 'DISCOUNT', 1, -amount, days, null, null
    from discounts where amount > 0
    union all
    select a.member_id, 4, null, a.code, 'ADJUSTMENT', 1, a.amount, null, null, null
    from adjustment a join sums using (member_id) where a.month = $1 and a.load <= $7
), totals as materialized (
    select member_id, coalesce(sum(amount) filter (where kind in ('BASE', 'ADDON')), 0) as base,
           coalesce(sum(amount) filter (where kind = 'USAGE'), 0) as overage,
           coalesce(-sum(amount) filter (where kind = 'DISCOUNT'), 0) as discount,
           coalesce(sum(amount) filter (where kind = 'ADJUSTMENT'), 0) as adjustment,
           sum(amount) as net, -(sum(amount) - floor(sum(amount) / 10) * 10) as rounding
    from items group by member_id
), written as (
    insert into bill_item (member_id, quantity, amount, used_quantity, free_allowance, revision, line_no, days, kind, code, month)
    select member_id, quantity, amount, used, free, $2,
           row_number() over (partition by member_id order by class, from_day, kind, code), days, kind::item_kind, code, $1
    from (select member_id, class, from_day, code, kind, quantity, amount, days, used, free from items
          union all
          select member_id, 5, null, 'rounding', 'ROUNDING', 1, rounding, null, null, null from totals where rounding <> 0) lines
)
insert into bill (member_id, base_amount, usage_amount, discount_amount, adjustment_amount, tax_amount, rounding_amount,
                  total_amount, revision, month)
select member_id, base, overage, discount, adjustment, net - round(net * 100 / 110), rounding, net + rounding, $2, $1
from totals
