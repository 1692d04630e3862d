//! Invariants of encrypted personal data: known keys, no nonce twice. Decrypts nothing.

use sqlx::PgConnection;

use super::report::{LIMIT, VerifyError};
use crate::error::During as _;

pub(super) async fn check_envelopes(
    connection: &mut PgConnection,
    keys: Option<&[String]>,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with sealed as (
               select m.member_id, m.load, c.name, c.envelope, length(c.envelope) as bytes
               from member m
               cross join lateral (values ('name', m.name), ('email', m.email), ('phone', m.phone)) c (name, envelope)
               where c.envelope is not null
           ), parted as materialized (
               -- Version, length of the key's id, the id, the nonce of 12, the text, its tag of 16.
               select member_id, load, name,
                      case when bytes > 30 and get_byte(envelope, 0) = 1 and bytes >= 30 + get_byte(envelope, 1)
                           then encode(substring(envelope from 3 for get_byte(envelope, 1)), 'escape') end as key,
                      case when bytes > 30 and bytes >= 30 + get_byte(envelope, 1)
                           then substring(envelope from 3 + get_byte(envelope, 1) for 12) end as nonce
               from sealed
           )
           select violation as "violation!" from (
               select format('the %s of member %s (load %s) is not an envelope', name, member_id, load) as violation
               from parted where key is null
               union all
               select format('the %s of member %s (load %s) is encrypted with key `%s`, which does not exist', name, member_id, load, key)
               from parted where key <> all($1)
               union all
               select format('key `%s` used a nonce %s times, for example for the %s', key, count(*),
                             min(format('%s of member %s', name, member_id)))
               from parted where key is not null group by key, nonce having count(*) > 1
           ) v limit $2"#,
        keys,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot read the envelopes")?;
    Ok(found)
}
