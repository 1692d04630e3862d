-- Members, what they subscribe to and what they used. Nothing is overwritten: another value is a row of a later load,
-- and the version that counts as of load N is the one with the highest load <= N.

create table member (
    member_id  bigint not null check (member_id > 0),
    load       bigint not null,
    locale     text check (locale in ('ko', 'en')),
    name       bytea not null,
    email      bytea,
    phone      bytea,
    primary key (member_id, load)
);
comment on table member is 'Members by version. Name, e-mail and phone are AES-256-GCM envelopes, bound to table, column and member.';
comment on column member.locale is 'Null: the installation''s.';
comment on column member.email is 'Null: no usable address; the bill''s notice is skipped.';

create table subscription (
    member_id  bigint not null check (member_id > 0),
    plan_code  text collate "C" not null,
    from_date  date not null,
    to_date    date check (to_date >= from_date),
    load       bigint not null,
    primary key (member_id, plan_code, from_date, load)
);
comment on column subscription.to_date is 'Exclusive; null: open; equal to from_date: taken back.';

create table discount_grant (
    member_id      bigint not null check (member_id > 0),
    discount_code  text collate "C" not null,
    from_date      date not null,
    to_date        date check (to_date >= from_date),
    load           bigint not null,
    primary key (member_id, discount_code, from_date, load)
);
comment on column discount_grant.to_date is 'Exclusive; null: open; equal to from_date: taken back.';

create table adjustment (
    adjustment_id  bigint primary key check (adjustment_id > 0),
    member_id      bigint not null check (member_id > 0),
    month          text collate "C" not null,
    code           text not null,
    amount         bigint not null,
    reason         text not null,
    load           bigint not null
);
comment on column adjustment.amount is 'Minor units: positive a charge, negative a credit.';
create index adjustment_by_member on adjustment (month, member_id);

create table usage (
    member_id   bigint not null check (member_id > 0),
    started_at  timestamptz not null,
    quantity    bigint not null check (quantity >= 0),
    load        bigint not null,
    kind        text collate "C" not null,
    month       text collate "C" not null,
    source      text collate "C" not null,
    usage_id    text collate "C" not null
) partition by list (month);
comment on table usage is 'Calls, messages and data sessions, a partition for each local month; each has a unique index on (source, usage_id) and a covering one by member.';
comment on column usage.quantity is 'Voice in seconds, data in bytes, sms in messages.';

-- A load parses into these and moves everything over in one transaction, so that it becomes visible as a whole.
create unlogged table staged_member (
    line_no    bigint not null,
    member_id  bigint not null,
    locale     text,
    name       bytea not null,
    email      bytea,
    phone      bytea
);
create unlogged table staged_subscription (
    line_no    bigint not null,
    member_id  bigint not null,
    plan_code  text collate "C" not null,
    from_date  date not null,
    to_date    date
);
create unlogged table staged_grant (
    line_no        bigint not null,
    member_id      bigint not null,
    discount_code  text collate "C" not null,
    from_date      date not null,
    to_date        date
);
create unlogged table staged_adjustment (
    line_no        bigint not null,
    adjustment_id  bigint not null,
    member_id      bigint not null,
    month          text collate "C" not null,
    code           text not null,
    amount         bigint not null,
    reason         text not null
);
create unlogged table staged_usage (
    line_no     bigint not null,
    member_id   bigint not null,
    started_at  timestamptz not null,
    quantity    bigint not null,
    kind        text collate "C" not null,
    month       text collate "C" not null,
    usage_id    text collate "C" not null
);
create unlogged table staged_conflict (
    file        text not null,
    line_no     bigint not null,
    other_load  bigint,
    other_line  bigint
);
comment on table staged_conflict is 'Lines whose identity came before with other content: in a load, or on a line of the same file.';
