-- A notification run can leave bills of 0 unsent.

alter table notification add column skip_zero boolean not null default false;
comment on column notification.skip_zero is 'Bills of 0 are skipped with the reason ZERO_AMOUNT. Corrections are sent whatever they come to.';
