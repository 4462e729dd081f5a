//! A matrix as a map of coloured cells, in SVG: rows send, columns receive, colours say how much worse than the better links a
//! link is. Knows figures and names, no measurement.

use std::fmt::Write as _;

use super::limits::MAP_SIDE_MAX;
use super::slow::{Cells, Slow};
use crate::bench::html::plot::escaped;

/// How many times worse a colour begins.
const STEPS: [f64; 6] = [0.0, 1.1, 1.25, 1.5, 2.0, 4.0];

/// Cells are narrower where there are many, and have no number then.
const WIDE: f64 = 58.0;
const NARROW: f64 = 11.0;
const NUMBERED_MAX: usize = 12;
const LEFT: f64 = 74.0;
const TOP: f64 = 44.0;
const LEGEND: f64 = 46.0;

/// What is shown.
pub(super) struct Map<'a> {
    /// Unlike that of others on the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) cells: &'a Cells,
    pub(super) slow: &'a Slow,
    /// What the better links do; 0: not known.
    pub(super) usual: f64,
    /// Whether more is better.
    pub(super) more_is_better: bool,
    /// A figure as people read it.
    pub(super) number: &'a dyn Fn(f64) -> String,
    /// Of all figures; the title says it too.
    pub(super) unit: &'a str,
}

fn step(times: f64) -> usize {
    STEPS.iter().rposition(|&from| times >= from).unwrap_or(0)
}

impl Map<'_> {
    /// As an SVG element.
    pub(super) fn svg(&self) -> String {
        let mut ranks: Vec<u32> = self.cells.keys().flat_map(|link| [link.0, link.1]).collect();
        ranks.sort_unstable();
        ranks.dedup();
        // So many ranks share a row.
        let group = ranks.len().div_ceil(MAP_SIDE_MAX).max(1);
        let rows: Vec<&[u32]> = ranks.chunks(group).collect();
        let side = if rows.len() <= NUMBERED_MAX { WIDE } else { NARROW };
        let height = if rows.len() <= NUMBERED_MAX { 26.0 } else { NARROW };
        let width = (LEFT + side * rows.len() as f64 + 8.0).max(460.0);
        let bottom = TOP + height * rows.len() as f64;
        let (id, title, unit) = (self.id, escaped(self.title), escaped(self.unit));
        let words = match self.slow.links.len() {
            0 => "No link is slow.".to_owned(),
            1 => "1 link is slow.".to_owned(),
            links => format!("{links} links are slow."),
        };
        let mut svg = format!(
            "<svg class=\"map\" viewBox=\"0 0 {width} {total}\" width=\"{width}\" height=\"{total}\" role=\"img\" \
             aria-labelledby=\"{id}-t {id}-d\">\n<title id=\"{id}-t\">{title}</title>\n<desc id=\"{id}-d\">{words}</desc>\n",
            total = bottom + LEGEND,
        );
        let _ = writeln!(
            svg,
            "<text class=\"what\" x=\"{LEFT}\" y=\"14\">to rank</text><text class=\"what\" x=\"4\" y=\"{:.0}\">from rank</text>",
            TOP - 8.0
        );
        let mut marks = String::new();
        for (row, from) in rows.iter().enumerate() {
            let y = TOP + height * row as f64;
            let name = name(from);
            if rows.len() <= NUMBERED_MAX || row % 8 == 0 {
                let _ = writeln!(
                    svg,
                    "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
                     <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                    LEFT - 8.0,
                    y + height / 2.0 + 4.0,
                    LEFT + side * (row as f64 + 0.5),
                    TOP - 8.0
                );
            }
            for (column, to) in rows.iter().enumerate() {
                let Some((link, value, times)) = self.worst(from, to) else { continue };
                let x = LEFT + side * column as f64;
                let number = escaped(&(self.number)(value));
                let said = if times > 1.05 {
                    format!(", {times:.1} times slower than the better links")
                } else {
                    String::new()
                };
                let colour = step(times);
                let _ = writeln!(
                    svg,
                    "<rect class=\"cell h{colour}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{side}\" height=\"{height}\"><title>rank {} to \
                     rank {}: {number} {unit}{said}</title></rect>",
                    link.0, link.1
                );
                if rows.len() <= NUMBERED_MAX {
                    let _ = writeln!(
                        svg,
                        "<text class=\"value h{colour}\" x=\"{:.1}\" y=\"{:.1}\">{number}</text>",
                        x + side / 2.0,
                        y + height / 2.0 + 4.5
                    );
                }
                if self.slow.links.contains_key(&link) {
                    let _ = writeln!(
                        marks,
                        "<rect class=\"slow\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>slow: rank {} to rank \
                         {}</title></rect>",
                        x + 1.5,
                        y + 1.5,
                        side - 3.0,
                        height - 3.0,
                        link.0,
                        link.1
                    );
                }
            }
        }
        // Above all cells, or neighbours would cover them.
        svg += &marks;
        for (at, from) in STEPS.iter().enumerate() {
            let (x, text) = match at {
                0 => (LEFT, "as good".to_owned()),
                // The first has more to say.
                _ => (LEFT + 14.0 + 63.0 * at as f64, format!("x {from}")),
            };
            let _ = writeln!(
                svg,
                "<rect class=\"cell h{at}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"14\"/><text class=\"tick\" x=\"{:.1}\" \
                 y=\"{:.1}\">{text}</text>",
                bottom + 18.0,
                x + 18.0,
                bottom + 29.5
            );
        }
        svg + "</svg>\n"
    }

    /// Of all links between two groups the worst, its figure, and how many times worse than the better links it is.
    fn worst(&self, from: &[u32], to: &[u32]) -> Option<((u32, u32), f64, f64)> {
        let usual = self.usual;
        let times = |value: f64| {
            let times = if self.more_is_better { usual / value.max(1e-12) } else { value / usual };
            // Of too few links nobody knows what is usual.
            if usual > 0.0 { times } else { 1.0 }
        };
        let links = from.iter().flat_map(|&from| to.iter().map(move |&to| (from, to)));
        let found = links.filter_map(|link| Some((link, *self.cells.get(&link)?)));
        found.map(|(link, value)| (link, value, times(value))).max_by(|a, b| a.2.total_cmp(&b.2))
    }
}

/// `3`, or `0-15`.
fn name(group: &[u32]) -> String {
    match group {
        [] => String::new(),
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// How many cells there are of each colour.
    fn colours(svg: &str) -> BTreeMap<usize, usize> {
        let mut colours = BTreeMap::new();
        // But for the legend, which has no title.
        for rect in svg
            .split("<rect class=\"cell h")
            .skip(1)
            .filter(|rect| rect.split("/>").next().is_some_and(|tag| tag.contains("<title>")))
        {
            *colours.entry(rect[..1].parse().unwrap()).or_default() += 1;
        }
        colours
    }

    fn svg(ranks: u32, figure: impl Fn(u32, u32) -> f64) -> String {
        let ways = (0..ranks).flat_map(|from| (0..ranks).map(move |to| (from, to)));
        let cells: Cells =
            ways.filter(|(from, to)| from != to).map(|(a, b)| ((a, b), figure(a, b))).collect();
        let slow = Slow::new(&cells, true);
        let number = |value: f64| format!("{value:.1}");
        Map {
            id: "m",
            title: "a < b",
            cells: &cells,
            slow: &slow,
            usual: slow.usual,
            more_is_better: true,
            number: &number,
            unit: "GB/s",
        }
        .svg()
    }

    #[test]
    fn a_slow_link_has_another_colour_and_a_mark() {
        let svg = svg(4, |from, to| if (from, to) == (1, 3) { 2.0 } else { 10.0 });
        assert_eq!(colours(&svg), BTreeMap::from([(0, 11), (5, 1)]));
        assert_eq!(svg.matches("class=\"slow\"").count(), 1);
        assert!(svg.contains("<title>slow: rank 1 to rank 3</title>") && svg.contains("a &lt; b"), "{svg}");
        assert!(svg.contains("2.0 GB/s, 5.0 times slower"), "{svg}");
    }

    #[test]
    fn one_link_is_one_and_several_are_more() {
        let slow =
            |links: &[(u32, u32)]| svg(4, |from, to| if links.contains(&(from, to)) { 2.0 } else { 10.0 });
        assert!(slow(&[]).contains(">No link is slow.<"));
        assert!(slow(&[(1, 3)]).contains(">1 link is slow.<"));
        assert!(slow(&[(1, 3), (0, 2)]).contains(">2 links are slow.<"));
    }

    #[test]
    fn the_legend_has_room_for_its_words() {
        let svg = svg(4, |_, _| 10.0);
        let place = |text: &str| -> f64 {
            text.split(" x=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let legend: Vec<(f64, f64, &str)> = svg
            .lines()
            .filter(|line| line.contains("height=\"14\"/>"))
            .map(|line| {
                let (swatch, text) = line.split_once("/>").unwrap();
                (place(swatch), place(text), text.split(['<', '>']).nth(2).unwrap())
            })
            .collect();
        assert_eq!((legend.len(), legend[0].2), (STEPS.len(), "as good"));
        // A letter of 12.5 pixels is hardly wider than 7, dots and spaces less.
        let end = |entry: &(f64, f64, &str)| entry.1 + 7.0 * entry.2.len() as f64;
        for pair in legend.windows(2) {
            assert!(end(&pair[0]) < pair[1].0, "{pair:?}");
        }
        let width: f64 = svg.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        assert!(end(&legend[STEPS.len() - 1]) <= width, "{legend:?}");
    }

    #[test]
    fn many_ranks_share_cells_and_the_slowest_link_is_still_seen() {
        let svg = svg(1000, |from, to| if (from, to) == (371, 42) { 2.0 } else { 10.0 });
        let colours = colours(&svg);
        assert_eq!((colours.values().sum::<usize>(), colours.get(&5)), (63 * 63, Some(&1)));
        assert!(svg.contains("slow: rank 371 to rank 42") && svg.len() < 1 << 20);
    }

    #[test]
    fn a_map_of_nothing_or_of_two_is_a_map() {
        assert!(svg(0, |_, _| 1.0).ends_with("</svg>\n"));
        let two = svg(2, |from, _| f64::from(from));
        assert!(!two.contains("NaN") && !two.contains("inf"), "{two}");
    }
}
