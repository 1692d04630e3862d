//! The Handlebars helpers: `money`, `date`, `month`, `quantity`, and versions of `if`, `unless` and
//! `each` that reject unknown variables.

use std::sync::Arc;

use domain::money::Currency;
use domain::month::BillingMonth;
use handlebars::{
    BlockContext, Context, Handlebars, Helper, HelperDef, HelperResult, JsonTruthy as _, Output, PathAndJson,
    RenderContext, RenderError, RenderErrorReason, Renderable as _, html_escape,
};
use jiff::civil::Date;
use serde_json::Value;

use crate::formats::Formats;
use crate::formatting;

/// How the helpers are used.
pub(super) const USAGE: [&str; 5] = [
    "{{money amount}}",
    "{{date day}}",
    "{{month}} (the bill's)",
    "{{quantity used kind}} ({{quantity blocks}} for a bare number)",
    "{{#if x}}, {{#unless x}}, {{#each list}} (with @first, @last and @index)",
];

/// Registers the helpers, whose values are escaped in HTML.
pub(super) fn register(registry: &mut Handlebars<'_>, formats: &Arc<Formats>, html: bool) {
    // `log` could write personal data to the log; `with` treats an unknown variable as empty.
    ["log", "with"].into_iter().for_each(|name| registry.unregister_helper(name));
    let helpers = [
        ("money", Format::Money),
        ("date", Format::Date),
        ("month", Format::Month),
        ("quantity", Format::Quantity),
    ];
    for (name, format) in helpers {
        let helper = FormatHelper { format, formats: Arc::clone(formats), html };
        registry.register_helper(name, Box::new(helper));
    }
    for (name, positive) in [("if", true), ("unless", false)] {
        registry.register_helper(name, Box::new(Condition { positive }));
    }
    registry.register_helper("each", Box::new(Each));
}

#[derive(Clone, Copy)]
enum Format {
    Money,
    Date,
    Month,
    Quantity,
}

struct FormatHelper {
    format: Format,
    formats: Arc<Formats>,
    html: bool,
}

impl HelperDef for FormatHelper {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        context: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let mut text = String::with_capacity(32);
        match self.format {
            Format::Money => {
                let minor = parameter(helper, 0)?.as_i64();
                let minor =
                    minor.ok_or_else(|| usage_error("money wants an amount, as in {{money total}}"))?;
                let currency = of_bill(context, "currency").and_then(|code| code.parse::<Currency>().ok());
                let currency = currency.ok_or_else(|| usage_error("the bill has no currency"))?;
                formatting::money(&mut text, minor, currency, &self.formats);
            }
            Format::Date => {
                let date = parameter(helper, 0)?.as_str().and_then(|text| text.parse::<Date>().ok());
                let date = date.ok_or_else(|| usage_error("date wants a day, as in {{date lastDay}}"))?;
                formatting::date(&mut text, date, &self.formats);
            }
            Format::Month => {
                let given = if helper.params().is_empty() {
                    of_bill(context, "month")
                } else {
                    parameter(helper, 0)?.as_str()
                };
                let month = given.and_then(|text| text.parse::<BillingMonth>().ok());
                let month = month.ok_or_else(|| usage_error("month is the bill's: {{month}}"))?;
                formatting::month(&mut text, month, &self.formats);
            }
            Format::Quantity => {
                // Without a kind it is a bare number.
                let kind = if helper.params().len() > 1 { parameter(helper, 1)?.as_str() } else { Some("") };
                let (Some(raw), Some(kind)) = (parameter(helper, 0)?.as_i64(), kind) else {
                    return Err(usage_error(
                        "quantity wants a number and a kind, as in {{quantity used kind}}",
                    ));
                };
                formatting::quantity(&mut text, raw, kind, &self.formats);
            }
        }
        // The texts of most formats contain nothing that needs escaping.
        if self.html && text.contains(['<', '>', '&', '"', '\'', '`', '=']) {
            text = html_escape(&text);
        }
        Ok(out.write(&text)?)
    }
}

/// `if` and `unless`, except that an unknown variable is an error and not false.
struct Condition {
    positive: bool,
}

impl HelperDef for Condition {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let holds = parameter(helper, 0)?.is_truthy(false) == self.positive;
        let branch = if holds { helper.template() } else { helper.inverse() };
        branch.map_or(Ok(()), |template| template.render(registry, context, render, out))
    }
}

/// `each`, except that an unknown list is an error and not empty.
struct Each;

impl HelperDef for Each {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let wrong = || usage_error("each wants one of the bill's lists, as in {{#each plans}}");
        let list = parameter(helper, 0)?.as_array().ok_or_else(wrong)?;
        if list.is_empty() {
            return helper
                .inverse()
                .map_or(Ok(()), |template| template.render(registry, context, render, out));
        }
        let path = helper.param(0).and_then(PathAndJson::context_path).ok_or_else(wrong)?;
        let Some(template) = helper.template() else { return Ok(()) };
        let mut block = BlockContext::new();
        block.base_path_mut().clone_from(path);
        block.base_path_mut().push(String::new());
        render.push_block(block);
        for index in 0..list.len() {
            if let Some(block) = render.block_mut() {
                block.set_local_var("first", Value::from(index == 0));
                block.set_local_var("last", Value::from(index + 1 == list.len()));
                block.set_local_var("index", Value::from(index));
                if let Some(position) = block.base_path_mut().last_mut() {
                    *position = index.to_string();
                }
            }
            template.render(registry, context, render, out)?;
        }
        render.pop_block();
        Ok(())
    }
}

fn parameter<'h>(helper: &'h Helper<'_>, index: usize) -> Result<&'h Value, RenderError> {
    let given = helper.param(index);
    let given =
        given.ok_or_else(|| usage_error(&format!("`{}` is used without its value", helper.name())))?;
    if given.is_value_missing() {
        return Err(RenderErrorReason::MissingVariable(PathAndJson::relative_path(given).cloned()).into());
    }
    Ok(given.value())
}

fn of_bill<'c>(context: &'c Context, key: &str) -> Option<&'c str> {
    context.data().get(key).and_then(Value::as_str)
}

fn usage_error(reason: &str) -> RenderError {
    RenderErrorReason::Other(reason.to_owned()).into()
}
