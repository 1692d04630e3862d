-- How a restored database is recognised, and how what it has forgotten is recorded again.

create table high_water_mark (
    month   text collate "C" primary key,
    mark    timestamptz not null,
    before  timestamptz check (before < mark)
);
comment on table high_water_mark is 'The last moment at which the operator saw that something of the month was billed or sent. The cluster has a copy: a database without the cluster''s mark was restored from before it, or is another one.';
comment on column high_water_mark.before is 'The mark before. The cluster still has it if the operator ended between writing the mark here and there.';

-- For the owner of the tables, by hand, after a restore. The roles of operator and worker may not call it.
create function record_sent(for_month text, message_ids text[])
returns table (recorded bigint, recorded_before bigint, in_progress bigint, without_bill bigint, other_ids bigint)
language plpgsql set search_path = public, pg_temp as $$
declare
    sending text;
    no_templates constant text := encode(sha256('{}'), 'hex');
    of_revision integer;
    part record;
    new_job bigint;
    new_notification bigint;
begin
    -- This also waits for transactions that begin a run of the month, or that resume one.
    perform open_notice_month(for_month);
    perform from notification n where n.month = for_month and n.closed_at is null order by n.id for update;
    select min(n.run) into sending from notification n where n.month = for_month and n.state = 'OPEN' and not n.rehearsal;
    if sending is not null then
        raise exception 'the run % sends: suspend or delete it first', sending using errcode = 'object_not_in_prerequisite_state';
    end if;

    create temp table arrived_bill on commit drop as
    select a.member_id, a.revision, d.state, coalesce(d.attempt, 0) as attempt, b.member_id is not null as billed,
           null::integer as corrects, null::text as selection
    from (select distinct parts[1]::bigint as member_id, parts[2]::integer as revision
          from unnest(message_ids) id
          cross join lateral regexp_match(id, '^<?' || for_month || '\.([0-9]{1,18})\.([0-9]{1,9})@') as f (parts)
          where parts is not null) a
    left join revision r on r.month = for_month and r.revision = a.revision and r.state in ('LIVE', 'ROLLED_BACK')
    left join bill b on b.month = r.month and b.member_id = a.member_id and b.revision = r.revision
    left join delivery d on d.month = for_month and d.member_id = a.member_id and d.revision = a.revision and d.channel = 'EMAIL';
    select 0, count(*) filter (where billed and state = 'SENT'),
           count(*) filter (where billed and state in ('CLAIMED', 'HANDED_OVER')), count(*) filter (where not billed),
           (select count(*) from unnest(message_ids) id where id !~ ('^<?' || for_month || '\.[0-9]{1,18}\.[0-9]{1,9}@'))
    into recorded, recorded_before, in_progress, without_bill, other_ids from arrived_bill;

    insert into template_set (sha256, content) values (no_templates, '{}') on conflict do nothing;
    -- The lower revision first: the e-mail of a higher one corrects it.
    for of_revision in select distinct a.revision from arrived_bill a where billed order by 1 loop
        update arrived_bill a set corrects = o.revision,
               selection = case when coalesce(a.state, 'PENDING') <> 'PENDING' then a.state::text
                                when o.revision is null then 'READY' else 'CORRECTED' end
        from arrived_bill s left join lateral other_sent_bill(for_month, s.member_id, s.revision) o on true
        where s.revision = of_revision and s.billed and coalesce(s.state not in ('SENT', 'CLAIMED', 'HANDED_OVER'), true)
          and a.member_id = s.member_id and a.revision = s.revision;
        -- One finished run for each state that the bills were in, as the runs that sent them would have been.
        for part in select a.selection, count(*) as bills from arrived_bill a
                    where a.revision = of_revision and a.selection is not null group by 1 order by 1 loop
            insert into job_log (kind, run, month, status, ended_at, total, succeeded, detail)
            values (case when part.selection in ('FAILED', 'UNKNOWN') then 'RECOVERY' else 'SEND' end, 'record_sent', for_month,
                    'SUCCEEDED', clock_timestamp(), part.bills, part.bills,
                    jsonb_build_object('select', part.selection, 'by', session_user))
            returning id into new_job;
            insert into notification (run, run_uid, month, selection, rehearsal, templates, state, selected, targets, job, closed_at)
            values ('record_sent', gen_random_uuid(), for_month, part.selection, false, no_templates, 'FINISHED', true, part.bills,
                    new_job, clock_timestamp())
            returning id into new_notification;
            insert into notice_target (notification, member_id, revision, after_attempt, corrects, outcome, ended_at, month)
            select new_notification, a.member_id, a.revision, a.attempt, a.corrects, 'SENT', clock_timestamp(), for_month
            from arrived_bill a where a.revision = of_revision and a.selection = part.selection;
            insert into delivery as d (member_id, revision, attempt, notification, ended_at, state, month)
            select a.member_id, a.revision, a.attempt + 1, new_notification, clock_timestamp(), 'SENT', for_month
            from arrived_bill a where a.revision = of_revision and a.selection = part.selection
            on conflict (month, member_id, revision, channel) do update
            set attempt = excluded.attempt, notification = excluded.notification, ended_at = excluded.ended_at, state = 'SENT',
                before = null, reason = null;
            recorded := recorded + part.bills;
        end loop;
    end loop;
    return next;
end $$;
comment on function record_sent is 'Records that the e-mails with these Message-IDs were sent, as the mail server''s log says, so that no run sends them again. A repeated call records nothing twice.';
