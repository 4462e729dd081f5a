//! A plot as SVG: lines through points on two axes, each line named where it ends. Knows no benchmark.

use std::fmt::Write as _;

/// In the SVG's own units, which are pixels at full size.
const WIDTH: f64 = 470.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
/// Room for the lines' names.
const RIGHT: f64 = 100.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// Between the names of two lines that end close to each other.
const NAME_HEIGHT: f64 = 15.0;

/// One axis. Values are placed linearly, or by their logarithm.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Axis {
    pub(in crate::bench) what: String,
    pub(in crate::bench) logarithmic: bool,
    /// Where there is a number, and how it is written.
    pub(in crate::bench) ticks: Vec<(f64, String)>,
}

/// One line.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Line {
    pub(in crate::bench) name: String,
    /// Which of the colours.
    pub(in crate::bench) colour: usize,
    /// Dashed and hollow: what others are compared with.
    pub(in crate::bench) reference: bool,
    /// With a mark at each point; else the line alone.
    pub(in crate::bench) marked: bool,
    pub(in crate::bench) points: Vec<(f64, f64)>,
}

/// One plot.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Plot {
    /// Unlike that of others on the page.
    pub(in crate::bench) id: String,
    pub(in crate::bench) title: String,
    /// The same in words, for who cannot see it.
    pub(in crate::bench) text: String,
    pub(in crate::bench) x: Axis,
    pub(in crate::bench) y: Axis,
    pub(in crate::bench) lines: Vec<Line>,
    /// Values that the axes reach in any case, so that plots beside each other have one scale.
    pub(in crate::bench) extent: Vec<(f64, f64)>,
}

/// Maps values of an axis to places.
#[derive(Debug, Clone, Copy)]
struct Scale {
    logarithmic: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logarithmic = axis.logarithmic;
        let place = |value: f64| if logarithmic { value.max(1e-12).log10() } else { value };
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.map(place) {
            (low, high) = (low.min(value), high.max(value));
        }
        if !(high - low).is_finite() {
            (low, high) = (0.0, 1.0);
        }
        // A little air, so that no mark lies on the frame; a single value lies in the middle.
        let air = if high - low < 1e-9 { 0.5 } else { 0.04 * (high - low) };
        Self { logarithmic, low: low - air, high: high + air, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(1e-12).log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn has(&self, value: f64) -> bool {
        let value = if self.logarithmic { value.max(1e-12).log10() } else { value };
        (self.low..=self.high).contains(&value)
    }
}

/// Powers of ten for a logarithmic axis; where they are few, also their double and fivefold.
pub(in crate::bench) fn powers(
    values: impl Iterator<Item = f64>,
    write: impl Fn(f64) -> String,
) -> Vec<(f64, String)> {
    let (mut low, mut high) = (f64::INFINITY, 0.0f64);
    for value in values.filter(|value| *value > 0.0) {
        (low, high) = (low.min(value), high.max(value));
    }
    if high == 0.0 {
        return Vec::new();
    }
    let decades = (low.log10().floor() as i32 - 1)..=(high.log10().ceil() as i32);
    let factors: &[f64] = match high / low {
        span if span > 300.0 => &[1.0],
        span if span > 30.0 => &[1.0, 3.0],
        _ => &[1.0, 2.0, 5.0],
    };
    let ticks = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)));
    ticks.map(|tick| (tick, write(tick))).collect()
}

/// Text as HTML has it.
pub(in crate::bench) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot {
    /// Whether there is anything to see.
    pub(in crate::bench) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points.is_empty())
    }

    /// As an SVG element.
    pub(in crate::bench) fn svg(&self) -> String {
        let lines = || self.lines.iter().flat_map(|line| &line.points);
        let points = || lines().chain(&self.extent).copied();
        let x = Scale::new(&self.x, points().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Scale::new(&self.y, points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let Self { title, text, .. } = self;
        // It may name a transport, and a report may come from anybody.
        let id = escaped(&self.id);
        let mut svg = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n\
             <title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n",
            escaped(title),
            escaped(text)
        );
        self.axes(&mut svg, x, y);
        for line in &self.lines {
            draw(&mut svg, line, x, y);
        }
        self.names(&mut svg, x, y);
        svg + "</svg>\n"
    }

    fn axes(&self, svg: &mut String, x: Scale, y: Scale) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, text) in self.y.ticks.iter().filter(|tick| y.has(tick.0)) {
            let at = y.at(*value);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                escaped(text)
            );
        }
        let mut free = 0.0;
        for (value, text) in self.x.ticks.iter().filter(|tick| x.has(tick.0)) {
            let at = x.at(*value);
            let half = 3.5 * text.chars().count() as f64;
            let _ = writeln!(svg, "<path class=\"notch\" d=\"M{at:.1} {bottom}v5\"/>");
            // One that would touch the one before is left out; its notch stays.
            if at - half < free {
                continue;
            }
            free = at + half + 6.0;
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                escaped(text)
            );
        }
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/><text class=\"what\" x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 5.0,
            escaped(&self.x.what)
        );
    }

    /// The name of each line where it ends, moved apart where they would touch.
    fn names(&self, svg: &mut String, x: Scale, y: Scale) {
        let mut ends: Vec<_> = self
            .lines
            .iter()
            .filter_map(|line| Some((line, line.points.last()?)))
            .map(|(line, end)| (line, x.at(end.0), y.at(end.1)))
            .collect();
        ends.sort_by(|a, b| a.2.total_cmp(&b.2));
        let mut places: Vec<f64> = ends.iter().map(|end| end.2).collect();
        for at in 1..places.len() {
            places[at] = places[at].max(places[at - 1] + NAME_HEIGHT);
        }
        let bottom = HEIGHT - BOTTOM;
        if let Some(last) = places.last_mut() {
            *last = last.min(bottom);
        }
        for at in (1..places.len()).rev() {
            places[at - 1] = places[at - 1].min(places[at] - NAME_HEIGHT);
        }
        for ((line, end_x, end_y), place) in ends.into_iter().zip(places) {
            let name_x = WIDTH - RIGHT + 14.0;
            // Where the name is not beside the end, a thin line leads to it.
            if (end_y - place).abs() > 3.0 || name_x - end_x > 30.0 {
                let _ = writeln!(
                    svg,
                    "<path class=\"leader\" d=\"M{:.1} {end_y:.1}L{:.1} {place:.1}\"/>",
                    end_x + 5.0,
                    name_x - 3.0
                );
            }
            let _ = writeln!(
                svg,
                "<text class=\"name c{}\" x=\"{name_x:.1}\" y=\"{:.1}\">{}</text>",
                line.colour,
                place + 4.0,
                escaped(&line.name)
            );
        }
    }
}

fn draw(svg: &mut String, line: &Line, x: Scale, y: Scale) {
    let kind = if line.reference { " reference" } else { "" };
    let places: Vec<_> = line.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
    if places.len() > 1 {
        let mut path = String::new();
        for (at, (x, y)) in places.iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' });
        }
        let _ = writeln!(svg, "<path class=\"line{kind} c{}\" d=\"{path}\"/>", line.colour);
    }
    if line.marked || places.len() == 1 {
        for (x, y) in places {
            let _ = writeln!(
                svg,
                "<circle class=\"mark{kind} c{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>",
                line.colour
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>) -> Plot {
        let axis = Axis { what: "x".to_owned(), logarithmic: true, ticks: Vec::new() };
        let line = |name: &str| Line {
            name: name.to_owned(),
            colour: 0,
            reference: false,
            marked: true,
            points: points.clone(),
        };
        let lines = vec![line("a<b"), line("c")];
        let (title, text) = ("t & t".to_owned(), String::new());
        Plot { id: "p".to_owned(), title, text, x: axis.clone(), y: axis, lines, extent: Vec::new() }
    }

    #[test]
    fn every_place_is_a_number_within_the_frame() {
        for points in [
            vec![],
            vec![(64.0, 1.0)],
            vec![(64.0, 0.0), (1024.0, 0.0)],
            vec![(64.0, 1.0), (1024.0, 1e9)],
            vec![(1.0, 5.0), (1.0, 5.0)],
        ] {
            let svg = plot(points.clone()).svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{points:?}: {svg}");
            assert!(svg.contains("t &amp; t") && !svg.contains("a<b"), "{svg}");
            for place in svg.split("cx=\"").skip(1) {
                let x: f64 = place.split('"').next().unwrap().parse().unwrap();
                assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{points:?}: {x}");
            }
            for place in svg.split("cy=\"").skip(1) {
                let y: f64 = place.split('"').next().unwrap().parse().unwrap();
                assert!((TOP..=HEIGHT - BOTTOM).contains(&y), "{points:?}: {y}");
            }
        }
    }

    #[test]
    fn nothing_that_a_plot_is_told_ends_a_tag() {
        let hostile = "\"><script>alert(1)</script>".to_owned();
        let plot = plot(vec![(64.0, 1.0), (1024.0, 2.0)]);
        let axis = Axis { what: hostile.clone(), logarithmic: true, ticks: vec![(64.0, hostile.clone())] };
        let lines = plot.lines.iter().map(|line| Line { name: hostile.clone(), ..line.clone() }).collect();
        let (id, title, text) = (hostile.clone(), hostile.clone(), hostile);
        let svg = Plot { id, title, text, x: axis.clone(), y: axis, lines, ..plot }.svg();
        assert!(!svg.contains("<script") && svg.contains("&lt;script"), "{svg}");
    }

    #[test]
    fn names_do_not_touch() {
        let svg = plot(vec![(64.0, 1.0), (1024.0, 1.0)]).svg();
        let places: Vec<f64> = svg
            .split("class=\"name")
            .skip(1)
            .map(|name| name.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((places[1] - places[0]).abs() >= NAME_HEIGHT - 0.2, "{places:?}");
    }

    #[test]
    fn powers_of_ten_are_told_more_finely_where_they_are_few() {
        let ticks = |values: [f64; 2]| powers(values.into_iter(), |tick| tick.to_string()).len();
        assert!(ticks([1.0, 1e6]) < 10 && ticks([5.0, 9.0]) >= 3);
        assert_eq!(ticks([0.0, 0.0]), 0);
    }
}
