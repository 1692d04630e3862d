use domain::locale::Locale;
use serde_json::Value;

use super::sample;
use crate::compose_error::ComposeError;
use crate::context::{IN_LISTS, TOP, context};
use crate::correction;
use crate::formats::{Formats, built_in};
use crate::line_name::Wording;

#[test]
fn error_messages_list_exactly_the_variables_of_the_context() {
    let (mut seen, mut seen_lines) = (0, 0);
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    };
    let formats = Formats::parse(built_in(Locale::EN).unwrap()).unwrap();
    let wording = Wording { locales: [Locale::EN, Locale::KO], formats: &formats };
    sample::try_each([Locale::EN], |bill| {
        let context = context(bill, &wording)?;
        let top = context.data();
        let of_correction = if bill.corrects.is_some() { &correction::TOP[..] } else { &[] };
        assert_eq!(keys(top), sorted(&[&TOP[..], of_correction].concat()));
        for line in top.get("lines").into_iter().flat_map(|lines| lines.as_array().unwrap()) {
            seen_lines += 1;
            assert_eq!(keys(line), sorted(&correction::IN_LINES));
        }
        for (list, variables) in IN_LISTS {
            let nested =
                top["plans"].as_array().unwrap().iter().flat_map(|plan| plan["usage"].as_array().unwrap());
            let entries: Vec<&Value> = match list {
                "usage" => nested.collect(),
                list => top[list].as_array().unwrap().iter().collect(),
            };
            seen += entries.len();
            entries.into_iter().for_each(|entry| assert_eq!(keys(entry), sorted(variables), "{list}"));
        }
        Ok::<(), ComposeError>(())
    })
    .unwrap();
    assert!(seen > 20 && seen_lines > 20);
}
