-- Corrections: e-mails to members to whom another amount was sent, and runs for members who have an address by now.

alter table notification
    drop constraint notification_selection_check,
    add constraint notification_selection_check
        check (selection in ('READY', 'FAILED', 'UNKNOWN', 'CORRECTED', 'SKIPPED'));

alter table notice_target add column corrects integer check (corrects <> revision);
comment on column notice_target.corrects is 'The revision whose bill was sent to the member before, with another amount: the e-mail is a correction of it. Null: the e-mail is the bill.';

-- The only place that says which bill counts as sent. An outcome that is not known, or not known yet, counts, also while the bill
-- is claimed to be sent again.
create function other_sent_bill(for_month text, of_member bigint, besides integer)
returns table (revision integer, state delivery_state) language sql stable as $$
    select d.revision, case d.state when 'CLAIMED' then d.before else d.state end from delivery d
    where d.month = for_month and d.member_id = of_member and d.revision <> besides and d.channel = 'EMAIL'
      and (d.state in ('SENT', 'UNKNOWN', 'HANDED_OVER') or d.state = 'CLAIMED' and d.before = 'UNKNOWN')
    order by d.state = 'HANDED_OVER' desc, d.ended_at desc
    limit 1
$$;
comment on function other_sent_bill is 'The member''s bill of another revision of the month that was sent last, or may have been. None: nothing else was sent.';
