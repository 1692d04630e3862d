//! The reference for billing: writes the price book into tables and bills the month with one
//! statement.

use domain::money::Decimal;
use domain::month::BillingMonth;
use domain::price_book::{DiscountKind, DiscountTarget, PlanKind, PriceBook, Proration};
use domain::zone::Zone;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

const STATEMENT: &str = include_str!("reference.sql");

const TABLES: &str = r#"
create table reference_plan (code text collate "C", base boolean, fee bigint);
create table reference_rate (plan text collate "C", usage_kind text collate "C", allowance numeric, per numeric, cap numeric);
create table reference_tier (plan text collate "C", usage_kind text collate "C", above numeric, up_to numeric, rate numeric);
create table reference_discount (code text collate "C", priority bigint, target text, percent boolean, value numeric,
                                 cap numeric, prorate boolean);
"#;

/// Writes the price book into tables.
pub(crate) async fn prepare(connection: &mut PgConnection, book: &PriceBook) -> anyhow::Result<()> {
    sqlx::raw_sql(TABLES).execute(&mut *connection).await?;
    for plan in book.plans() {
        sqlx::query("insert into reference_plan values ($1, $2, $3)")
            .bind(&plan.code)
            .bind(plan.kind == PlanKind::Base)
            .bind(plan.base_fee.get())
            .execute(&mut *connection)
            .await?;
        for rate in &plan.usage {
            sqlx::query("insert into reference_rate values ($1, $2, $3, $4, $5)")
                .bind(&plan.code)
                .bind(&rate.kind)
                .bind(rate.allowance)
                .bind(rate.per)
                .bind(rate.cap.map(|cap| cap.get()))
                .execute(&mut *connection)
                .await?;
            let mut above = 0;
            for tier in &rate.tiers {
                sqlx::query("insert into reference_tier values ($1, $2, $3, $4, $5::text::numeric)")
                    .bind(&plan.code)
                    .bind(&rate.kind)
                    .bind(above)
                    .bind(tier.up_to)
                    .bind(decimal(tier.rate))
                    .execute(&mut *connection)
                    .await?;
                above = tier.up_to.unwrap_or_default();
            }
        }
    }
    for discount in book.discounts() {
        sqlx::query("insert into reference_discount values ($1, $2, $3, $4, $5::text::numeric, $6, $7)")
            .bind(&discount.code)
            .bind(discount.priority)
            .bind(match discount.applies_to {
                DiscountTarget::Base => "base",
                DiscountTarget::Usage => "usage",
                DiscountTarget::Total => "total",
            })
            .bind(discount.kind == DiscountKind::Percent)
            .bind(decimal(discount.value))
            .bind(discount.cap.map(|cap| cap.get()))
            .bind(discount.prorate == Proration::Days)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::raw_sql("analyze reference_plan, reference_rate, reference_tier, reference_discount")
        .execute(connection)
        .await?;
    Ok(())
}

fn decimal(value: Decimal) -> String {
    let millionths = value.millionths();
    format!("{}.{:06}", millionths / Decimal::SCALE, millionths % Decimal::SCALE)
}

/// Bills the month with one statement and returns the number of bills. The session settings favour
/// this statement: more memory for sorts, and no JIT compilation.
pub(crate) async fn bill(
    connection: &mut PgConnection,
    month: BillingMonth,
    zone: &Zone,
    cutoff: i64,
) -> anyhow::Result<u64> {
    sqlx::raw_sql("set work_mem = '256MB'; set jit = off").execute(&mut *connection).await?;
    let clock = zone.month(month);
    let done = sqlx::query(STATEMENT)
        .bind(month.to_string())
        .bind(1_i32)
        .bind(month.first_day().to_sqlx())
        .bind(month.next_first_day().to_sqlx())
        .bind(clock.start().to_sqlx())
        .bind(clock.end().to_sqlx())
        .bind(cutoff)
        .bind(zone.name())
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}
