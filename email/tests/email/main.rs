//! Mails as they come out, with the chart's own templates.

#[cfg(test)]
mod compose;
#[cfg(test)]
mod files_only;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod invalid_templates;
