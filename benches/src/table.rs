//! Figures as a table, for a terminal or a document. It computes nothing but ratios.

/// Cells, the first of each row to the left and the others to the right; and a remark behind a row.
#[derive(Debug, Default)]
pub struct Table {
    /// The headings.
    pub head: Vec<String>,
    /// Cells and remark of each row.
    pub rows: Vec<(Vec<String>, String)>,
}

impl Table {
    /// For a terminal: aligned, remarks at the ends of their rows.
    pub fn plain(&self) -> String {
        let columns = self.head.len();
        let all = || std::iter::once(&self.head).chain(self.rows.iter().map(|(cells, _)| cells));
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                all().filter_map(|cells| cells.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (cells, remark) in
            std::iter::once((&self.head, "")).chain(self.rows.iter().map(|(c, r)| (c, r.as_str())))
        {
            let mut row = String::from(" ");
            for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let cell = if at == 0 { format!(" {cell:<width$}") } else { format!("   {cell:>width$}") };
                row.push_str(&cell);
            }
            text.push_str(format!("{row}   {remark}").trim_end());
            text.push('\n');
        }
        text
    }

    /// For a document: remarks below.
    pub fn markdown(&self) -> String {
        let row = |cells: &[String]| {
            let empty = self.head.len().saturating_sub(cells.len());
            format!("| {} |{}\n", cells.join(" | "), "  |".repeat(empty))
        };
        let mut text = row(&self.head);
        text.push_str(&format!("|---|{}\n", "--:|".repeat(self.head.len() - 1)));
        for (cells, _) in &self.rows {
            text.push_str(&row(cells));
        }
        for (cells, remark) in self.rows.iter().filter(|(_, remark)| !remark.is_empty()) {
            text.push_str(&format!("\n{}: {remark}\n", cells[0]));
        }
        text
    }
}

/// `own / other`, where two zeroes are as good as each other and nothing can be told of one.
pub fn ratio(own: Option<f64>, other: Option<f64>) -> String {
    match (own, other) {
        (Some(0.0), Some(0.0)) => "both 0".to_owned(),
        (Some(own), Some(other)) if other > 0.0 => format!("{:.2}", own / other),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_as_text_and_complete_as_markdown() {
        let mut table = Table { head: vec![String::new(), "p50 us".to_owned()], ..Table::default() };
        table.rows.push((vec!["libzmq".to_owned(), "84.37".to_owned()], String::new()));
        table.rows.push((vec!["omq".to_owned()], "failed: no link".to_owned()));
        assert_eq!(table.plain(), "           p50 us\n  libzmq    84.37\n  omq      failed: no link\n");
        let markdown = "|  | p50 us |\n|---|--:|\n| libzmq | 84.37 |\n| omq |  |\n\nomq: failed: no link\n";
        assert_eq!(table.markdown(), markdown);
    }

    #[test]
    fn ratios_of_nothing() {
        assert_eq!(ratio(Some(0.0), Some(0.0)), "both 0");
        assert_eq!(ratio(Some(1.0), Some(0.0)), "-");
        assert_eq!(ratio(None, Some(1.0)), "-");
        assert_eq!(ratio(Some(1.0), Some(4.0)), "0.25");
    }
}
