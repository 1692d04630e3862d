//! Tests of the pricing contract through the crate's public API.

#[cfg(test)]
mod change_causes;
#[cfg(test)]
mod example;
#[cfg(test)]
mod explanations;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod members;
#[cfg(test)]
mod price_books;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod quarantine;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod zones;
