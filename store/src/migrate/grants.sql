-- The rights of each role, by table and column; nothing else is allowed. Applied after every migration, from the start: a right that
-- an earlier version granted and this version does not need is revoked.
-- :operator and :worker are replaced by the quoted names of the roles.

revoke all on all tables in schema public from :operator, :worker;
revoke all on all functions in schema public from public, :operator, :worker;
grant usage on schema public to :operator, :worker;

-- Both roles read.
grant select on _sqlx_migrations, installation, load, job_log, price_book, month_lock, revision, chunk, bill, bill_item,
    quarantined_member, subscription, discount_grant, adjustment, usage, live_bill, live_bill_item, bill_history, quarantine,
    template_set, notification, publication, notice_target, delivery, consumer, rollback, ineligible_member, outcome,
    revision_layer, scope_member, bill_digest, bill_change, bill_diff, bill_diff_histogram, bill_diff_movers,
    load_total, loads, highest_live_revision, last_billing, not_charged, posted_difference, posted_adjustment,
    high_water_mark
    to :operator, :worker;
grant execute on function bill_as_of(text, integer, boolean, boolean, bigint, bigint),
    bill_item_as_of(text, integer, boolean, boolean, bigint, bigint), quarantine_as_of(text, integer, boolean, boolean, bigint, bigint),
    late_row(text, bigint, bigint) to :operator, :worker;

-- job_log: no role deletes, and a trigger keeps completed rows unchanged.
grant insert (kind, run, month, detail), update (status, ended_at, total, succeeded, failed, skipped, detail) on job_log
    to :operator, :worker;

-- The operator counts members and cannot read personal data.
grant select (member_id, load, locale) on member to :operator;

-- The operator plans, verifies, issues, rejects and rolls back revisions.
grant insert on price_book, rollback to :operator;
grant insert, update on month_lock, revision to :operator;
grant insert on chunk, scope_member to :operator;
grant execute on function open_billing_month(text), analyze_billing_month(text) to :operator;

-- The operator begins notification runs, opens their rounds and ends them. It ends deliveries and targets whose lease has expired,
-- which requires updates of these columns. It deletes consumers that are gone.
grant insert on template_set, publication to :operator;
grant insert (run, run_uid, month, selection, from_member, to_member, member_ids, rehearsal, skip_zero, templates, max_per_second, job),
    update (max_per_second, state, round, closed_at, reason) on notification to :operator;
grant update (waiting, done_at) on publication to :operator;
grant update (state, attempt, before, holder, lease_until, ended_at, reason) on delivery to :operator;
grant update (outcome, reason, ended_at) on notice_target to :operator;
grant delete on consumer to :operator;
grant execute on function open_notice_month(text) to :operator;

-- The operator moves the months' high-water marks.
grant insert, update on high_water_mark to :operator;

-- The worker loads and takes loads back. Loaded rows are never changed or deleted, except the rows of a dead seed.
grant select on member to :worker;
grant insert on load, load_total, member, subscription, discount_grant, adjustment, usage to :worker;
grant update (state, finished_at, taken_back_by) on load to :worker;
grant select, insert, delete, truncate on staged_member, staged_subscription, staged_grant, staged_adjustment, staged_usage,
    staged_conflict to :worker;
grant execute on function open_usage_month(text), index_usage_month(text), analyze_reference_data(), sweep_dead_load(bigint),
    record_load_totals(bigint)
    to :worker;

-- The worker bills: it adds bills and writes the result of its chunk. It locks the month's row in share mode, which requires the
-- right to update one column.
grant insert on bill, bill_item, quarantined_member, ineligible_member, bill_change, posted_difference to :worker;
grant update (since) on month_lock to :worker;
grant update (state, billed, quarantined, changed, items, rated_usage, unbillable_usage, quarantined_usage, base_amount, usage_amount,
    discount_amount, adjustment_amount, tax_amount, rounding_amount, total_amount, digest, worker, started_at, done_at,
    pricing_version, not_charged_add_ons, not_charged_adjustments, not_charged_adjustment_amount, not_charged_usage,
    posted, posted_amount)
    on chunk to :worker;

-- The worker selects and publishes the targets of a run, claims deliveries and records outcomes. It cannot begin, resume or end a
-- run, nor delete a target or a delivery.
grant insert (notification, member_id, revision, after_attempt, corrects, month), update (outcome, reason, ended_at) on notice_target
    to :worker;
grant update (paced_until, selected, targets) on notification to :worker;
grant update (published_to, messages, waiting, done_at) on publication to :worker;
grant insert, update on delivery to :worker;
grant insert (name, transport), update (trouble, trouble_since, seen_at), delete on consumer to :worker;
grant execute on function analyze_notices(text), other_sent_bill(text, bigint, integer),
    counts_as_sent(delivery_state, delivery_state) to :worker;
