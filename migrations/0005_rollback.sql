-- Rollbacks: which run took a revision back, when and why. The revision's row has its state; this table has the runs.

create table rollback (
    month           text collate "C" not null,
    revision        integer not null,
    run             text not null,
    run_uid         uuid not null unique,
    reason          text not null,
    job             bigint not null unique references job_log,
    rolled_back_at  timestamptz not null,
    primary key (month, revision),
    foreign key (month, revision) references revision
);
comment on table rollback is 'One row for each revision that was taken back, written in the transaction that changes the revision''s state.';
comment on column rollback.run is 'NAMESPACE/NAME of the run that took the revision back, not of the run that billed it.';
comment on column rollback.rolled_back_at is 'The same as revision.closed_at.';

create or replace view bill_history as
select b.month, b.member_id, b.revision, r.state, r.run,
       b.base_amount, b.usage_amount, b.discount_amount, b.adjustment_amount, b.tax_amount, b.rounding_amount, b.total_amount,
       (select i.currency from installation i) as currency, r.opened_at, r.issued_at, r.closed_at,
       k.run as rolled_back_by, r.reason
from bill b
join revision r on r.month = b.month and r.revision = b.revision
left join rollback k on k.month = r.month and k.revision = r.revision;
comment on column bill_history.rolled_back_by is 'NAMESPACE/NAME of the run that took the revision back.';
comment on column bill_history.reason is 'Why the revision was rejected or taken back.';
