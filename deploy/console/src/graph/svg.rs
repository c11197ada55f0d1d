//! A graph as SVG, without anything fetched or any style of its own: presentation attributes say how it looks as a file, classes
//! let a page say it otherwise.

use std::fmt::Write as _;

use super::{Anchor, Area, Canvas, Graph, LEFT, Paint, RIGHT, Tone, WIDTH};
use crate::text::escape;

/// Colours that are told apart by who sees no red or no green (Okabe and Ito).
pub(super) const LOSS: [&str; super::CLASSES] = ["#0072b2", "#009e73", "#e69f00", "#d55e00", "#000000"];

/// An element that is written.
pub(super) struct Svg(String);

impl Svg {
    pub(super) fn new(graph: &Graph) -> Self {
        let mut out = String::with_capacity(16_384);
        let height = graph.height();
        let (from, to) = (graph.span.from.as_micros() / 1_000_000, graph.span.to.as_micros() / 1_000_000);
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             font-family=\"sans-serif\" font-size=\"11\" data-from=\"{from}\" data-to=\"{to}\" data-left=\"{LEFT}\" \
             data-right=\"{RIGHT}\"><title>{}</title>\
             <defs><pattern id=\"none\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
             <path d=\"M0 6L6 0\" stroke=\"#999\" stroke-width=\"1\"/></pattern></defs>\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>",
            escape(&graph.title)
        );
        Self(out)
    }

    pub(super) fn end(mut self) -> String {
        self.0.push_str("</svg>");
        self.0
    }
}

/// The class of a paint, and its colour.
fn look(paint: Paint) -> (String, &'static str) {
    let (class, fill) = match paint {
        Paint::Paper => ("paper", "fill=\"#fff\""),
        Paint::Nothing => ("none", "fill=\"url(#none)\""),
        Paint::Wide => ("smoke", "fill=\"#000\" fill-opacity=\".14\""),
        Paint::Narrow => ("smoke", "fill=\"#000\" fill-opacity=\".22\""),
        Paint::Grid => ("grid", "fill=\"#000\" fill-opacity=\".12\""),
        Paint::Mark(Tone::Good) => ("good", "fill=\"#0072b2\""),
        Paint::Mark(Tone::Bad) => ("bad", "fill=\"#d55e00\""),
        Paint::Mark(Tone::Quiet) => ("quiet", "fill=\"#8a8f98\""),
        Paint::Loss(class) => return (format!("loss k{class}"), ""),
    };
    (class.to_owned(), fill)
}

impl Canvas for Svg {
    fn fill(&mut self, paint: Paint, areas: &[Area], says: Option<&str>) {
        if areas.is_empty() {
            return;
        }
        let (class, fill) = look(paint);
        let _ = write!(self.0, "<path class=\"{class}\" {fill}");
        if let Paint::Loss(class) = paint {
            let _ = write!(self.0, "fill=\"{}\"", LOSS.get(class).unwrap_or(&"#000"));
        }
        self.0.push_str(" d=\"");
        for (x, y, width, height) in areas {
            let _ = write!(self.0, "M{x:.1} {y:.1}h{width:.1}v{height:.1}h-{width:.1}z");
        }
        match says {
            Some(says) => {
                let _ = write!(self.0, "\"><title>{}</title></path>", escape(says));
            }
            None => self.0.push_str("\"/>"),
        }
    }

    fn lines(&mut self, paint: Paint, lines: &[(f64, f64, f64)]) {
        let Paint::Loss(class) = paint else { return };
        if lines.is_empty() {
            return;
        }
        let colour = LOSS.get(class).unwrap_or(&"#000");
        let _ = write!(
            self.0,
            "<path class=\"k{class}\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\" d=\""
        );
        for (x, y, width) in lines {
            let _ = write!(self.0, "M{x:.1} {y:.1}h{width:.1}");
        }
        self.0.push_str("\"/>");
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, bold: bool, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let bold = if bold { " font-weight=\"bold\"" } else { "" };
        let _ = write!(
            self.0,
            "<text class=\"ink\" x=\"{x:.1}\" y=\"{y:.1}\"{anchor}{bold} fill=\"#222\">{}</text>",
            escape(text)
        );
    }
}
