//! Invalid sets of templates, each with its error message.

use std::collections::BTreeMap;

use domain::locale::Locale;
use email::{ComposeError, TemplateError, Templates};

use crate::fixture::{BillFixture, files, files_with, templates};

fn parse(files: &BTreeMap<String, String>) -> Result<Templates, TemplateError> {
    Templates::parse(files, Locale::KO)
}

fn rejection(file: &str, text: &str) -> String {
    parse(&files_with(file, text)).unwrap_err().to_string()
}

#[test]
fn names_missing_and_unknown_files() {
    for file in files().into_keys().filter(|file| file.ends_with(".hbs")) {
        let mut without = files();
        without.remove(&file);
        assert_eq!(parse(&without).unwrap_err(), TemplateError::Missing { file });
    }
    for file in ["de.header.hbs", "de!.subject.hbs", "subject.hbs"] {
        let error = rejection(file, "Rechnung");
        let start = format!(
            "{file} does not belong to a set of templates; a set consists of LOCALE.subject.hbs, LOCALE.body.html.hbs, \
             LOCALE.body.txt.hbs and LOCALE.formats.yaml for each LOCALE, such as ko or pt-BR, and"
        );
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn a_set_without_corrections_sends_bills_only() {
    let mut bills = files();
    bills.retain(|file, _| !file.contains(".correction."));
    let parsed = || parse(&bills).unwrap();
    let error = parsed().require_corrections().unwrap_err().to_string();
    for file in files().into_keys() {
        assert_eq!(error.contains(&file), file.contains(".correction."), "{file}: {error}");
    }
    templates().require_corrections().unwrap();
    let bill = BillFixture::example(Locale::KO);
    bill.compose(parsed()).unwrap();
    assert_eq!(bill.compose_correction(parsed(), &bill).unwrap_err(), ComposeError::NoCorrections);
}

#[test]
fn only_corrections_have_the_variables_of_the_old_bill() {
    for text in ["-{{oldTotal}}", "-{{#each lines}}{{/each}}"] {
        let error = rejection("en.body.txt.hbs", text);
        assert!(error.contains("there is no `"), "{error}");
        parse(&files_with("en.correction.body.txt.hbs", text)).unwrap();
    }
    let error = rejection("en.correction.body.html.hbs", "{{#each lines}}{{oldDays}}{{/each}}");
    assert!(error.contains("there is no `oldDays` here") && error.contains("in lines name, kind"), "{error}");
}

#[test]
fn names_the_line_of_a_syntax_error() {
    for (text, line, words) in [
        ("a\n{{#if credit}}\nb", 1, ""),
        ("a\n{{#if credit}}b{{/each}}", 2, "{{#if}} is open, but {{/each}} closes another block"),
        ("{{name", 1, ""),
        ("fine\nfine\n{{ money }", 3, ""),
    ] {
        let error = rejection("en.body.txt.hbs", text);
        assert!(error.starts_with("en.body.txt.hbs, line ") && error.contains(words), "{error}");
        if line > 1 {
            assert!(error.starts_with(&format!("en.body.txt.hbs, line {line}: ")), "{error}");
        }
    }
}

#[test]
fn names_unknown_variables_and_wrong_parameters() {
    let cases = [
        ("Hello {{nam}}", 1, "there is no `nam` here"),
        ("\n{{{nam}}}", 2, "there is no `nam` here"),
        ("\n\n{{#each plans}}\n{{reason}}\n{{/each}}", 4, "there is no `reason` here"),
        ("{{#each plans}}{{#each usage}}\n{{code}}{{/each}}{{/each}}", 2, "there is no `code` here"),
        ("{{#each plan}}x{{/each}}", 1, "there is no `plan` here"),
        ("{{#each plan}}x{{else}}y{{/each}}", 1, "there is no `plan` here"),
        ("{{#each name}}x{{/each}}", 1, "each wants one of the bill's lists, as in {{#each plans}}"),
        ("{{#with plans}}x{{/with}}", 1, "there is no helper `with`"),
        ("{{#if credits}}x{{/if}}", 1, "there is no `credits` here"),
        ("{{#unless credits}}x{{/unless}}", 1, "there is no `credits` here"),
        ("{{#if credit}}{{else}}{{nam}}{{/if}}", 1, "there is no `nam` here"),
        ("{{#if credit}}{{nam}}{{/if}}", 1, "there is no `nam` here"),
        ("{{#if taxIncluded}}{{nam}}{{/if}}", 1, "there is no `nam` here"),
        ("{{#if tax}}{{nam}}{{/if}}", 1, "there is no `nam` here"),
        ("{{#unless total}}{{nam}}{{/unless}}", 1, "there is no `nam` here"),
        ("{{#each adjustments}}{{#if reason}}{{else}}{{nam}}{{/if}}{{/each}}", 1, "there is no `nam` here"),
        ("{{money sum}}", 1, "there is no `sum` here"),
        ("{{euro total}}", 1, "there is no helper `euro`"),
        ("{{log name}}", 1, "there is no helper `log`"),
        ("{{money}}", 1, "`money` is used without its value"),
        ("{{money name}}", 1, "money wants an amount, as in {{money total}}"),
        ("{{date name}}", 1, "date wants a day, as in {{date lastDay}}"),
        ("{{month name}}", 1, "month is the bill's: {{month}}"),
        ("{{quantity name name}}", 1, "quantity wants a number and a kind"),
    ];
    for (text, line, words) in cases {
        for file in ["ko.body.html.hbs", "en.body.txt.hbs", "en.subject.hbs"] {
            // The dash keeps a subject from being empty.
            let error = rejection(file, &format!("-{text}"));
            let start = format!("{file}, line {line}: ");
            assert!(error.starts_with(&start) && error.contains(words), "{text}: {error}");
            // The message also lists what is available.
            assert!(
                error.contains("memberId")
                    && error.contains("in usage name, kind")
                    && error.contains("{{money amount}}")
            );
        }
    }
}

#[test]
fn partials_and_decorators_are_rejected() {
    for text in [
        "{{> other}}",
        "{{~> other}}",
        "{{#> other}}x{{/other}}",
        "{{#*inline \"x\"}}y{{/inline}}",
        "{{* x}}",
    ] {
        let error = rejection("ko.body.txt.hbs", &format!("\n{text}"));
        assert!(
            error.starts_with("ko.body.txt.hbs, line 2: partials and decorators can't be used"),
            "{error}"
        );
    }
}

#[test]
fn a_subject_must_be_one_line() {
    for text in
        ["", " \n ", "a\nb", "a\r\nBcc: x@example.com", "{{#if credit}}{{else}}x{{/if}}", "a\u{2028}b"]
    {
        let error = rejection("ko.subject.hbs", text);
        assert_eq!(
            error, "ko.subject.hbs must render exactly one line of text that is not empty",
            "{text:?}"
        );
    }
}

#[test]
fn the_digest_depends_on_the_content_only() {
    let set = templates();
    assert_eq!(set.sha256().len(), 64);
    // PostgreSQL may return the keys of a JSON object in another order.
    let value: serde_json::Value = serde_json::from_str(set.to_json()).unwrap();
    let shuffled = serde_json::to_string_pretty(&value).unwrap();
    let again = Templates::from_json(&shuffled, Locale::KO).unwrap();
    assert_eq!((again.sha256(), again.to_json()), (set.sha256(), set.to_json()));
    let other = parse(&files_with("en.subject.hbs", "Bill")).unwrap();
    assert_ne!(other.sha256(), set.sha256());
    assert!(matches!(Templates::from_json("[]", Locale::KO), Err(TemplateError::Content(_))));
}
