-- What an installation is, what every batch writes, and the numbers of the loads.

create table installation (
    only_one    boolean primary key default true check (only_one),
    time_zone   text not null,
    currency    text not null check (currency ~ '^[A-Z]{3}$'),
    locale      text not null check (locale in ('ko', 'en')),
    created_at  timestamptz not null default now()
);
comment on table installation is 'One row: what is fixed when the database is first migrated and never changes afterwards.';
comment on column installation.time_zone is 'IANA name; months, days and segments are in this zone.';
comment on column installation.currency is 'ISO 4217 code; every amount is a count of its minor units.';
comment on column installation.locale is 'The locale of a member whose own is not given.';

create table job_log (
    id          bigint generated always as identity primary key,
    kind        text not null check (kind in ('SEED', 'LOAD', 'BILLING', 'REBILLING', 'ROLLBACK', 'PUBLISH', 'SEND',
                                              'RECOVERY', 'REHEARSAL', 'KEY_ROTATION')),
    run         text,
    month       text collate "C",
    started_at  timestamptz not null default now(),
    ended_at    timestamptz,
    status      text not null default 'RUNNING'
                check (status in ('RUNNING', 'SUCCEEDED', 'COMPLETED_WITH_FAILURES', 'FAILED', 'CANCELLED')),
    total       bigint not null default 0 check (total >= 0),
    succeeded   bigint not null default 0 check (succeeded >= 0),
    failed      bigint not null default 0 check (failed >= 0),
    skipped     bigint not null default 0 check (skipped >= 0),
    detail      jsonb not null default '{}',
    check ((status = 'RUNNING') = (ended_at is null)),
    check (status = 'RUNNING' or total = succeeded + failed + skipped)
);
comment on table job_log is 'One row for each batch: written at the start, completed at the end, never changed afterwards.';
comment on column job_log.run is 'NAMESPACE/NAME of the run, where one stands behind the batch.';
comment on column job_log.total is 'In the batch''s own unit: rows (seed, load), members (billing).';
create index job_log_running on job_log (kind) where status = 'RUNNING';

create function job_log_is_history() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' or old.status <> 'RUNNING' then
        raise exception 'job_log row % is finished and cannot be changed', old.id using errcode = 'object_not_in_prerequisite_state';
    end if;
    return new;
end $$;
create trigger job_log_is_history before update or delete on job_log for each row execute function job_log_is_history();

create table load (
    number       bigint primary key check (number > 0),
    kind         text not null check (kind in ('SEED', 'LOAD')),
    source       text not null,
    fingerprint  text,
    state        text not null default 'RUNNING' check (state in ('RUNNING', 'FINISHED', 'DEAD')),
    job          bigint not null references job_log,
    started_at   timestamptz not null default now(),
    finished_at  timestamptz,
    check ((state = 'FINISHED') = (finished_at is not null))
);
comment on table load is 'Loads and seeds by increasing number. Rows of a load count from the moment it is FINISHED.';
comment on column load.fingerprint is 'A seed''s parameters: the same seed again is nothing new.';
comment on column load.state is 'DEAD: it died before its end; what it brought was swept away by the next.';
