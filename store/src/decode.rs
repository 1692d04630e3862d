//! Values of columns as the types of this program. The schema keeps them in range; a value that is
//! not was written by another version, or by hand. Knows no table.

use domain::bill_digest::BillDigest;
use domain::month::BillingMonth;

use crate::error::StoreError;

/// A number within the range of `T`.
pub(crate) fn read_number<T: TryFrom<i64>>(column: &'static str, value: i64) -> Result<T, StoreError> {
    T::try_from(value).map_err(|_| StoreError::unreadable(column, value))
}

/// A month as `YYYY-MM`.
pub(crate) fn read_month(column: &'static str, text: &str) -> Result<BillingMonth, StoreError> {
    text.parse().map_err(|_| StoreError::unreadable(column, text))
}

/// A `numeric` without decimals, cast to text in the statement: sums of a month can exceed 64 bits.
pub(crate) fn read_amount(column: &'static str, text: &str) -> Result<i128, StoreError> {
    text.parse().map_err(|_| StoreError::unreadable(column, text))
}

/// The digest of a bill.
pub(crate) fn read_bill_digest(column: &'static str, bytes: Vec<u8>) -> Result<BillDigest, StoreError> {
    <[u8; 16]>::try_from(bytes)
        .map(BillDigest::from_bytes)
        .map_err(|bytes| StoreError::unreadable(column, format_args!("{} bytes", bytes.len())))
}
