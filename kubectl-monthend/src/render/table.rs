//! Tables as kubectl prints them: columns with three spaces between, numbers to the right.

/// Which side a column is aligned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Lines of equal columns; a cell can have colours.
pub(crate) fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            let cells = std::iter::once(&header).chain(rows).filter_map(|row| row.get(at));
            cells.map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (((_, align), width), cell) in columns.iter().zip(&widths).zip(row) {
            let space = " ".repeat(width.saturating_sub(self::width(cell)));
            if !line.is_empty() {
                line.push_str("   ");
            }
            match align {
                Align::Left => line.extend([cell.as_str(), &space]),
                Align::Right => line.extend([space.as_str(), cell]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The characters that are seen.
fn width(cell: &str) -> usize {
    anstream::adapter::strip_str(cell).to_string().chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{GOOD, painted, plain};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_without_its_colour() {
        let columns = [("RUN", Align::Left), ("BILLED", Align::Right), ("AGE", Align::Left)];
        let rows = [
            vec![painted(GOOD, "october"), "1,000".to_owned(), "5m".to_owned()],
            vec!["x".to_owned(), "20,000,000".to_owned(), String::new()],
        ];
        assert_eq!(
            plain(&table(&columns, &rows)),
            "RUN           BILLED   AGE\n\
             october        1,000   5m\n\
             x         20,000,000\n"
        );
    }
}
