-- A locale is any language tag, not only ko or en: which ones have templates is known when a notification run begins.

alter table installation drop constraint installation_locale_check,
    add constraint installation_locale_check check (length(locale) <= 15 and locale ~ '^[a-z]{2,3}(-[A-Za-z0-9]{1,8})*$');
comment on column installation.locale is 'The locale of a member whose own is not given, and of e-mails whose own locale has no templates: a language tag such as ko or pt-BR.';

alter table member drop constraint member_locale_check,
    add constraint member_locale_check check (length(locale) <= 15 and locale ~ '^[a-z]{2,3}(-[A-Za-z0-9]{1,8})*$');
comment on column member.locale is 'A language tag such as ko or de. Null: the installation''s.';
