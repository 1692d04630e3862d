-- A bill whose outcome was unknown once may have arrived, whatever became of sending it again.

create or replace function other_sent_bill(for_month text, of_member bigint, besides integer)
returns table (revision integer, state delivery_state) language sql stable as $$
    select d.revision, case when d.state in ('SENT', 'HANDED_OVER') then d.state else 'UNKNOWN' end
    from delivery d
    left join lateral (
        -- The runs of a month are few, and a target is found by its key. A first attempt has none before it.
        select max(t.ended_at) as at from notification n
        join notice_target t on t.month = d.month and t.notification = n.id and t.member_id = d.member_id and t.revision = d.revision
        where n.month = d.month and t.outcome = 'UNKNOWN' and d.attempt > 1 and d.state not in ('SENT', 'UNKNOWN', 'HANDED_OVER')
    ) unknown on true
    where d.month = for_month and d.member_id = of_member and d.revision <> besides and d.channel = 'EMAIL'
      and (counts_as_sent(d.state, d.before) or unknown.at is not null)
    order by d.state = 'HANDED_OVER' desc, coalesce(unknown.at, d.ended_at) desc
    limit 1
$$;
comment on function other_sent_bill is 'The member''s bill of another revision of the month that was sent last, or may have been: sending it again may have failed or been skipped after an attempt of unknown outcome. None: nothing else was sent.';
