//! Bills, items, members, templates and price books as an email needs them.

use store::installation::Locale;
use store::notification::{self, Uuid};
use store::testing;

use super::fixture::{Fixture, keys, templates};

#[tokio::test]
async fn an_email_shows_the_bill_its_items_and_the_latest_member_data() {
    let fixture = Fixture::with_bills(3).await;
    fixture.database.issue_bills(2, "values (2)").await;
    fixture.database.execute(
            "with job as (insert into job_log (kind) values ('LOAD'), ('LOAD') returning id)
             insert into load (number, kind, source, state, finished_at, job)
             select 1 + row_number() over (order by id), 'LOAD', 'default', case row_number() over (order by id) when 1 then 'FINISHED' else 'RUNNING' end,
                    case row_number() over (order by id) when 1 then now() end, id from job;
             insert into member (member_id, load, locale, name, email) values (2, 2, 'ko', '\\x0a', null), (2, 3, 'en', '\\x0b', '\\x0c');
             insert into bill_item (member_id, quantity, amount, used_quantity, free_allowance, revision, line_no, days, kind, code, month)
             values (2, 3, 250, 10, 7, 2, 2, 31, 'USAGE', 'sms', '2026-10'),
                    (2, 1, -5, null, null, 2, 3, null, 'ADJUSTMENT', 'GOODWILL', '2026-10'),
                    (2, 1, 7, null, null, 2, 4, null, 'ADJUSTMENT', 'FEE', '2026-10');
             insert into adjustment (adjustment_id, member_id, month, code, amount, reason, load) values
                    (9, 2, '2026-10', 'FEE', 7, 'a letter', 1), (4, 2, '2026-10', 'GOODWILL', -5, 'sorry', 1),
                    (3, 2, '2026-10', 'LATE', 1, 'after the cut-off', 2), (1, 2, '2026-09', 'OTHER', 1, 'another month', 1)",
        )
        .await;
    let mut connection = fixture.worker().await;
    let request = [keys(&[3, 77], 1), keys(&[2, 2], 2)].concat();
    let run = fixture.ready(1).await;
    let rows = notification::read_bills_for_email(&mut connection, &run, &request).await.unwrap();
    assert_eq!(rows.len(), 2);
    let two = &rows[0];
    assert_eq!(
        (two.key, two.name.as_slice(), two.email.as_deref()),
        (keys(&[2], 2)[0], &[0x0a_u8][..], None)
    );
    assert_eq!(
        (two.locale, two.amounts.total.get(), two.amounts.tax.get()),
        (Some(Locale::KO), 178_000, 8090)
    );
    let items: Vec<_> = two
        .items
        .iter()
        .map(|item| (item.kind.as_str(), item.code.as_str(), item.amount.get(), item.used, item.free))
        .collect();
    assert_eq!(
        items,
        [
            ("BASE", "UNLIMITED-89", 178_000, None, None),
            ("USAGE", "sms", 250, Some(10), Some(7)),
            ("ADJUSTMENT", "GOODWILL", -5, None, None),
            ("ADJUSTMENT", "FEE", 7, None, None)
        ]
    );
    let reasons: Vec<_> = two.items.iter().map(|item| item.reason.as_deref()).collect();
    assert_eq!(reasons, [None, None, Some("sorry"), Some("a letter")]);
    let three = &rows[1];
    assert_eq!((three.locale, three.email.as_deref(), three.items.len()), (None, Some(&[2_u8][..]), 1));
    assert_eq!(
        notification::read_price_book(&mut connection, &three.price_book).await.unwrap(),
        testing::PRICE_BOOK
    );

    // Of the member's versions the last one that was not taken back counts; without any, no address.
    let take_back = "delete from member where load = 3;
                     with job as (insert into job_log (kind) values ('LOAD') returning id)
                     insert into load (number, kind, source, state, finished_at, job) select 4, 'TAKE_BACK', 'default', 'FINISHED', now(), id from job;
                     update load set taken_back_by = 4 where number =";
    fixture.database.execute(&format!("{take_back} 2")).await;
    let rows = notification::read_bills_for_email(&mut connection, &run, &keys(&[2], 2)).await.unwrap();
    assert_eq!((rows[0].locale, rows[0].email.as_deref()), (Some(Locale::EN), Some(&[2_u8][..])));
    fixture.database.execute("update load set taken_back_by = 4 where number = 1").await;
    let rows = notification::read_bills_for_email(&mut connection, &run, &keys(&[3], 1)).await.unwrap();
    assert_eq!((rows.len(), rows[0].email.as_deref()), (1, None));

    assert_eq!(notification::read_templates(&mut connection, &run.templates).await.unwrap(), templates());
    assert!(notification::read_templates(&mut connection, "none").await.is_err());
    let names = ["test/run-1".to_owned(), "test/nobody".to_owned()];
    let found = notification::read_latest_runs(&mut connection, &names).await.unwrap();
    assert_eq!(found, [notification::read_run(&mut connection, Uuid::from_u128(1)).await.unwrap()]);
}
