-- A digest beside each bill, so that a re-billing compares a member's bill without reading its items.

alter table bill add column digest bytea check (octet_length(digest) = 16);
comment on column bill.digest is 'The first 16 bytes of a SHA-256 of all amounts and items: see the view bill_digest. Null in bills of a version that had none.';

create view bill_digest as
select b.month, b.member_id, b.revision, b.digest as stored,
       substr(sha256(int8send(b.base_amount) || int8send(b.usage_amount) || int8send(b.discount_amount)
                     || int8send(b.adjustment_amount) || int8send(b.tax_amount) || int8send(b.rounding_amount)
                     || int8send(b.total_amount) || int8send(i.items) || i.bytes), 1, 16) as computed
from bill b
cross join lateral (
    select count(*) as items,
           coalesce(string_agg(
               int8send(line_no)
               || int8send(octet_length(kind::text)) || convert_to(kind::text, 'UTF8')
               || int8send(octet_length(code)) || convert_to(code, 'UTF8')
               || int8send(quantity) || int8send(amount) || int8send(coalesce(days, -1)) || int8send(coalesce(used_quantity, -1))
               || int8send(coalesce(free_allowance, -1)), ''::bytea order by line_no), ''::bytea) as bytes
    from bill_item
    where bill_item.month = b.month and bill_item.member_id = b.member_id and bill_item.revision = b.revision) i;
comment on view bill_digest is 'The digest of each bill as it was stored, and as it follows from the bill and its items.';

create function analyze_billing_month(for_month text) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    parent text;
    leaf text;
begin
    foreach parent in array array['bill', 'bill_item', 'bill_change'] loop
        leaf := parent || '_' || replace(for_month, '-', '_');
        if to_regclass(leaf) is not null then
            execute format('analyze %I', leaf);
        end if;
    end loop;
    analyze quarantined_member, ineligible_member, revision;
end $$;
comment on function analyze_billing_month is 'Lets the planner know of outcomes that were just written, for roles that own no table.';
