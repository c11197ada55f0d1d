//! Smoke graphs: the median as a line, its percentiles as bands around it, losses as bars; states in lanes below, all on one time
//! axis. Pure: [`Graph`] says what is where, and is drawn as SVG or as PNG.

mod png;
mod svg;

use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use crate::history::{Cell, Grain, MINUTES};

/// How many bins a graph has at most.
const BINS: u64 = 240;

const LEFT: f64 = 56.0;
const WIDTH: f64 = 720.0;
const RIGHT: f64 = 708.0;
const PANEL: f64 = 150.0;
const PLOT: f64 = 104.0;
const LANE: f64 = 22.0;
const AXIS: f64 = 24.0;

/// The steps that bins may have, in seconds.
const STEPS: [u64; 13] =
    [60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800];

/// A span of time, and how finely it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From here.
    pub from: Timestamp,
    /// Up to here, not included.
    pub to: Timestamp,
    /// A bin's length.
    pub step: Duration,
    /// What its bins are made of.
    pub grain: Grain,
}

impl Span {
    /// The span with bins as fine as fit, made of minutes while those are kept. It is a minute at least.
    #[must_use]
    pub fn new(from: Timestamp, to: Timestamp, now: Timestamp) -> Self {
        let to = to.max(from + Duration::from_secs(60));
        let kept = from >= (now - MINUTES);
        let fine = |step: &u64| (kept || *step >= 3_600) && to.since(from).as_secs().div_ceil(*step) <= BINS;
        let step = Duration::from_secs(STEPS.into_iter().find(fine).unwrap_or(604_800));
        let grain = if kept && !step.as_secs().is_multiple_of(3_600) { Grain::Minutes } else { Grain::Hours };
        Self { from: from.floor(step), to, step, grain }
    }

    fn x(&self, at: Timestamp) -> f64 {
        let part = at.millis_since(self.from) / self.to.millis_since(self.from).max(1.0);
        LEFT + (RIGHT - LEFT) * part.clamp(0.0, 1.0)
    }

    /// Puts the cells of a probe into bins; the time of each, and what it holds.
    #[must_use]
    pub fn bins(&self, cells: &[(Timestamp, Cell)]) -> Vec<(Timestamp, Cell)> {
        let mut bins: Vec<(Timestamp, Cell)> = Vec::new();
        for (at, cell) in cells {
            let at = at.floor(self.step);
            match bins.last_mut() {
                Some((last, bin)) if *last == at => bin.merge(cell),
                _ => bins.push((at, cell.clone())),
            }
        }
        bins
    }
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// What it is of, for who cannot see it.
    pub title: String,
    /// The time axis.
    pub span: Span,
    /// One above the other.
    pub panels: Vec<Panel>,
    /// Below them.
    pub lanes: Vec<Lane>,
}

/// A probe's round-trip times and losses.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What it is called.
    pub title: String,
    /// As [`Span::bins`] gives them.
    pub bins: Vec<(Timestamp, Cell)>,
}

/// States over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// What it is called.
    pub title: String,
    /// Whether nothing is known where there is no mark.
    pub unknown: bool,
    /// Where it says something.
    pub marks: Vec<Mark>,
}

/// A state for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// From here.
    pub from: Timestamp,
    /// Up to here.
    pub to: Timestamp,
    /// How it was.
    pub tone: Tone,
    /// What it says.
    pub words: String,
}

/// What a mark looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// All was well.
    Good,
    /// It was not.
    Bad,
    /// Nobody is told.
    Quiet,
}

/// How many classes of loss there are.
const CLASSES: usize = 5;

/// The class of a loss: none, up to 2 %, 10 %, 50 %, more.
fn class_of(loss: f64) -> usize {
    match loss {
        0.0 => 0,
        ..=0.02 => 1,
        ..=0.1 => 2,
        ..=0.5 => 3,
        _ => 4,
    }
}

/// What something on a graph is, which says what it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    /// Where something was seen.
    Paper,
    /// Where nothing is known.
    Nothing,
    /// The band from 5 % to 95 %.
    Wide,
    /// The middle half.
    Narrow,
    Grid,
    /// The median, or the bar, of a class of loss.
    Loss(usize),
    Mark(Tone),
}

/// A rectangle: its left and upper edge, how wide and how high it is.
type Area = (f64, f64, f64, f64);

/// On which side of its place a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// What a graph is drawn on. It is 720 wide; nothing on it but upright rectangles and text.
trait Canvas {
    /// Fills all of these; together, so that where they meet nothing is seen. `says` tells who points at it more.
    fn fill(&mut self, paint: Paint, areas: &[Area], says: Option<&str>);
    /// Draws level lines, each from a place so far to the right.
    fn lines(&mut self, paint: Paint, lines: &[(f64, f64, f64)]);
    /// Writes at a place on the baseline.
    fn text(&mut self, at: (f64, f64), anchor: Anchor, bold: bool, text: &str);
}

impl Graph {
    /// How high it is, in its own units; it is 720 wide.
    fn height(&self) -> f64 {
        PANEL * self.panels.len() as f64 + LANE * self.lanes.len() as f64 + AXIS
    }

    /// As an SVG element, which is a file too.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut svg = svg::Svg::new(self);
        self.draw(&mut svg);
        svg.end()
    }

    /// As a PNG file, on light paper.
    #[must_use]
    pub fn png(&self) -> Vec<u8> {
        let mut png = png::Png::new(WIDTH, self.height());
        self.draw(&mut png);
        png.end()
    }

    fn draw(&self, canvas: &mut impl Canvas) {
        let mut top = 0.0;
        for panel in &self.panels {
            panel.draw(&self.span, top, canvas);
            top += PANEL;
        }
        for lane in &self.lanes {
            lane.draw(&self.span, top, canvas);
            top += LANE;
        }
        self.draw_axis(top, canvas);
    }

    fn draw_axis(&self, top: f64, canvas: &mut impl Canvas) {
        let Span { from, to, .. } = self.span;
        let length = to.since(from).as_secs();
        let steps =
            [300, 600, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000];
        let step = steps.into_iter().find(|step| length / step <= 8).unwrap_or(7_776_000);
        let step = Duration::from_secs(step);
        let mut at = from.floor(step);
        while at < to {
            if at >= from {
                let text = at.to_string();
                let label = if step.as_secs() >= 86_400 || (length > 86_400 && &text[11..16] == "00:00") {
                    &text[5..10]
                } else {
                    &text[11..16]
                };
                let x = self.span.x(at);
                canvas.fill(Paint::Grid, &[(x - 0.5, 0.0, 1.0, top)], None);
                canvas.text((x, top + 15.0), Anchor::Middle, false, label);
            }
            at = at + step;
        }
    }
}

/// A value's ends and marks on an axis: the lowest, the highest, and how far the marks are apart.
fn scale(lowest: f64, highest: f64) -> (f64, f64, f64) {
    let highest = if highest > 0.0 { highest } else { 1.0 };
    // What lies close together far from zero is drawn large; an axis never shows less than a tenth of its value.
    let lowest = if lowest > highest {
        0.0
    } else if lowest > highest * 0.5 {
        lowest.min(highest * 0.9)
    } else {
        0.0
    };
    let rough = (highest - lowest) / 4.0;
    let ten = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|of| of * ten).find(|step| *step >= rough).unwrap_or(rough);
    ((lowest / step).floor() * step, (highest / step).ceil() * step, step)
}

impl Panel {
    fn draw(&self, span: &Span, top: f64, canvas: &mut impl Canvas) {
        let plot = top + 22.0;
        let base = plot + PLOT;
        let at = |cell: &Cell, part| cell.replies.quantile(part);
        let lows = self.bins.iter().filter_map(|(_, cell)| at(cell, 0.05));
        let highs = self.bins.iter().filter_map(|(_, cell)| at(cell, 0.95));
        let (low, high, step) = scale(lows.fold(f64::MAX, f64::min), highs.fold(0.0, f64::max));
        let y = |ms: f64| base - PLOT * ((ms - low) / (high - low).max(1e-9)).clamp(0.0, 1.0);
        canvas.text((LEFT, top + 15.0), Anchor::Start, true, &self.title);
        canvas.fill(Paint::Nothing, &[(LEFT, plot, RIGHT - LEFT, PLOT)], None);
        // Where something was seen the hatch is covered.
        let (mut seen, mut wide, mut narrow) = (Vec::<Area>::new(), Vec::new(), Vec::new());
        let mut medians: [Vec<_>; CLASSES] = Default::default();
        let mut losses: [Vec<_>; CLASSES] = Default::default();
        for (begins, cell) in &self.bins {
            let (x, end) = (span.x(*begins), span.x(*begins + span.step));
            let width = end - x;
            let Some(loss) = cell.loss() else { continue };
            match seen.last_mut() {
                Some((from, _, wide, _)) if (*from + *wide - x).abs() < 0.01 => *wide += width,
                _ => seen.push((x, plot, width, PLOT)),
            }
            let band = |band: &mut Vec<Area>, from, to| {
                if let (Some(from), Some(to)) = (at(cell, from), at(cell, to)) {
                    band.push((x, y(to), width, y(from) - y(to)));
                }
            };
            band(&mut wide, 0.05, 0.95);
            band(&mut narrow, 0.25, 0.75);
            let class = class_of(loss);
            if let (Some(median), Some(lines)) = (at(cell, 0.5), medians.get_mut(class)) {
                lines.push((x, y(median), width));
            }
            if let (true, Some(areas)) = (loss > 0.0, losses.get_mut(class)) {
                // Also of the smallest loss something is seen.
                let tall = (loss * 18.0).max(2.0);
                areas.push((x, base + 20.0 - tall, width, tall));
            }
        }
        canvas.fill(Paint::Paper, &seen, None);
        canvas.fill(Paint::Wide, &wide, None);
        canvas.fill(Paint::Narrow, &narrow, None);
        let mut mark = low;
        while mark <= high + step / 2.0 {
            canvas.fill(Paint::Grid, &[(LEFT, y(mark) - 0.5, RIGHT - LEFT, 1.0)], None);
            canvas.text((LEFT - 5.0, y(mark) + 4.0), Anchor::End, false, &milliseconds(mark));
            mark += step;
        }
        for (class, (median, loss)) in medians.iter().zip(&losses).enumerate() {
            canvas.lines(Paint::Loss(class), median);
            canvas.fill(Paint::Loss(class), loss, None);
        }
        canvas.text((LEFT - 5.0, base + 16.0), Anchor::End, false, "loss");
    }
}

/// A round-trip time as an axis shows it.
#[must_use]
pub fn milliseconds(ms: f64) -> String {
    match ms {
        0.0 => "0".to_owned(),
        ..0.1 => format!("{ms:.3} ms"),
        ..1.0 => format!("{ms:.2} ms"),
        ..10.0 => format!("{ms:.1} ms"),
        ..10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

impl Lane {
    fn draw(&self, span: &Span, top: f64, canvas: &mut impl Canvas) {
        // Where nothing is known of a tunnel it is hatched; where there was no incident there was none.
        if self.unknown {
            canvas.fill(Paint::Nothing, &[(LEFT, top + 12.0, RIGHT - LEFT, 8.0)], None);
        }
        canvas.text((LEFT, top + 9.5), Anchor::Start, false, &self.title);
        for mark in &self.marks {
            let (x, end) = (span.x(mark.from), span.x(mark.to));
            let (tall, up) = if mark.tone == Tone::Good { (4.0, 2.0) } else { (8.0, 0.0) };
            let area = (x, top + 12.0 + up, (end - x).max(2.0), tall);
            canvas.fill(Paint::Mark(mark.tone), &[area], Some(&mark.words));
        }
    }
}

#[cfg(test)]
mod tests {
    use crosswatch_shared::observation::{Lost, Outcome};

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T08:00:00Z".parse().unwrap()
    }

    fn hours(count: u32) -> Duration {
        Duration::from_secs(3_600) * count
    }

    fn cell(replies: u32, lost: u32) -> Cell {
        let mut cell = Cell::default();
        (0..replies).for_each(|more| cell.add(Outcome::Reply { rtt_ms: 80.0 + f64::from(more) }, None));
        (0..lost).for_each(|_| cell.add(Outcome::Lost(Lost::Timeout), None));
        cell
    }

    fn graph(title: &str, bins: Vec<(Timestamp, Cell)>) -> String {
        graph_of(title, bins).svg()
    }

    fn graph_of(title: &str, bins: Vec<(Timestamp, Cell)>) -> Graph {
        let span = Span::new(now() - hours(1), now(), now());
        let lane = Lane {
            title: title.to_owned(),
            unknown: true,
            marks: vec![Mark { from: now() - hours(1), to: now(), tone: Tone::Bad, words: title.to_owned() }],
        };
        let panel = Panel { title: title.to_owned(), bins };
        Graph { title: title.to_owned(), span, panels: vec![panel], lanes: vec![lane] }
    }

    #[test]
    fn a_span_is_as_fine_as_fits_and_of_hours_where_minutes_are_gone() {
        let of = |from: u32| Span::new(now() - hours(from), now(), now());
        let told = |span: Span| (span.step.as_secs(), span.grain);
        assert_eq!(told(of(1)), (60, Grain::Minutes));
        assert_eq!(told(of(24)), (600, Grain::Minutes));
        assert_eq!(told(of(24 * 7)), (3_600, Grain::Hours));
        assert_eq!(told(of(24 * 30)), (10_800, Grain::Hours));
        assert_eq!(told(of(24 * 365)), (172_800, Grain::Hours));
        let old = Span::new(now() - hours(24 * 40), now() - hours(24 * 40 - 1), now());
        assert_eq!(told(old), (3_600, Grain::Hours));
    }

    #[test]
    fn a_bin_holds_all_of_its_cells() {
        let span = Span::new(now() - hours(24), now(), now());
        let at = now() - hours(2);
        let minutes: Vec<_> =
            (0..20).map(|minute| (at + Duration::from_secs(60) * minute, cell(3, 1))).collect();
        let bins = span.bins(&minutes);
        let told: Vec<_> = bins.iter().map(|(_, cell)| (cell.replies.count(), cell.lost)).collect();
        assert_eq!(told, [(30, 10), (30, 10)]);
    }

    #[test]
    fn loss_is_seen_by_colour_and_by_height_and_nothing_seen_is_hatched() {
        let minute = Duration::from_secs(60);
        let at = now() - hours(1);
        let well = graph("l", vec![(at, cell(60, 0))]);
        assert!(well.contains("class=\"k0\"") && !well.contains("class=\"loss"), "{well}");
        let lossy =
            graph("l", vec![(at, cell(60, 0)), (at + minute, cell(30, 30)), (at + minute * 2, cell(0, 60))]);
        assert!(lossy.contains("class=\"k3\"") && lossy.contains("class=\"loss k3\""));
        // Without any reply there is no median, and a bar as high as it gets.
        assert!(
            lossy.contains("class=\"loss k4\"") && lossy.contains("v18.0") && !lossy.contains("class=\"k4\"")
        );
        // Covered where something was seen: three bins of sixty, as one.
        assert!(lossy.contains("h32.6v104.0h"), "{lossy}");
        assert!(!graph("l", Vec::new()).contains("v104h"));
    }

    #[test]
    fn markup_and_control_characters_are_text() {
        let svg = graph("<script>alert(1)</script>\u{1b}[31m\u{0}\"'&", vec![(now() - hours(1), cell(1, 0))]);
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;"), "{svg}");
        assert!(!svg.chars().any(char::is_control), "{svg}");
    }

    #[test]
    fn a_picture_has_what_was_seen_in_its_colours_and_its_words() {
        let minute = Duration::from_secs(60);
        let bins = vec![(now() - hours(1), cell(60, 0)), (now() - hours(1) + minute, cell(0, 60))];
        let (width, height, pixels) = png::decoded(&graph_of("l → m", bins).png());
        assert_eq!((width, height), (1_440, 392));
        let at = |x: f64, y: f64| pixels[(y * 2.0) as usize * width + (x * 2.0) as usize];
        let (plot, base) = (22.0, 126.0);
        assert_eq!(at(LEFT + 300.0, base + 50.0), [255; 3], "nothing is there");
        assert_ne!(at(LEFT + 5.0, base - 20.0), at(LEFT + 16.0, base - 20.0), "smoke, and none of a loss");
        assert_eq!(at(LEFT + 16.0, base + 10.0), [0; 3], "all is lost");
        assert_eq!(at(LEFT + 5.0, base + 10.0), [255; 3], "and before it nothing");
        let median = (plot as usize..base as usize).any(|y| at(LEFT + 5.0, y as f64) == [0x00, 0x72, 0xb2]);
        assert!(median, "the median has the colour of no loss");
        let hatched = (0..24).filter(|x| at(LEFT + 400.0 + f64::from(*x), plot + 50.0) == [0x99; 3]).count();
        assert!((2..12).contains(&hatched), "{hatched}");
        let dark = |from: usize, to: usize| {
            pixels[from * width..to * width].iter().filter(|of| of[0] < 0x60).count()
        };
        assert!(dark(0, 40) > 20, "the title is written");
    }

    #[test]
    fn an_axis_has_few_marks_and_holds_its_values() {
        for (lowest, highest) in
            [(0.0, 0.0), (0.03, 0.09), (79.0, 82.0), (80.0, 80.0), (1.0, 3_000.0), (f64::MAX, 0.0)]
        {
            let (low, high, step) = scale(lowest, highest);
            assert!(high >= highest && low <= lowest && (high - low) / step < 7.0, "{low} {high} {step}");
        }
    }
}
