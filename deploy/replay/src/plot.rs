//! Drawings as SVG text. Fonts are the reader's own, and nothing is loaded from anywhere.

use std::ops::Range;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use plotters::coord::Shift;
use plotters::prelude::*;

/// A drawing failed. Trying again cannot help.
#[derive(Debug, thiserror::Error)]
#[error("the drawing failed: {0}")]
pub struct PlotError(String);

impl PlotError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Two lines over the same numbers, one above the other.
pub(crate) fn two(
    over: &str,
    upper: (&str, &[(f64, f64)]),
    lower: (&str, &[(f64, f64)]),
) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (760, 520)).into_drawing_area();
        root.fill(&WHITE).map_err(PlotError::of)?;
        let (above, below) = root.split_vertically(260);
        let across = range(upper.1.iter().chain(lower.1).map(|(x, _)| *x), false);
        line(&above, over, across.clone(), upper, &BLUE)?;
        line(&below, over, across, lower, &RED)?;
        root.present().map_err(PlotError::of)?;
    }
    Ok(svg)
}

fn line(
    area: &Area<'_>,
    over: &str,
    across: Range<f64>,
    (what, points): (&str, &[(f64, f64)]),
    colour: &RGBColor,
) -> Result<(), PlotError> {
    let up = range(points.iter().map(|(_, y)| *y), true);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(56)
        .build_cartesian_2d(across, up)
        .map_err(PlotError::of)?;
    chart.configure_mesh().light_line_style(WHITE).x_desc(over).y_desc(what).draw().map_err(PlotError::of)?;
    chart
        .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
        .map_err(PlotError::of)?;
    let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
    chart.draw_series(dots).map_err(PlotError::of)?;
    Ok(())
}

/// A line of a drawing over time.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    /// Seconds from the beginning, and the value; between two parts there was none to have.
    pub(crate) parts: Vec<Vec<(f64, f64)>>,
}

/// Lines over the same time, two groups one above the other, in the same colours; some spans of it shaded.
pub(crate) fn over_time(
    whole: (Timestamp, Timestamp),
    shaded: &[(f64, f64)],
    upper: (&str, &[Line<'_>]),
    lower: (&str, &[Line<'_>]),
) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (960, 560)).into_drawing_area();
        root.fill(&WHITE).map_err(PlotError::of)?;
        let (above, below) = root.split_vertically(320);
        lines(&above, whole, shaded, upper, true)?;
        lines(&below, whole, shaded, lower, false)?;
        root.present().map_err(PlotError::of)?;
    }
    Ok(svg)
}

fn lines(
    area: &Area<'_>,
    (from, until): (Timestamp, Timestamp),
    shaded: &[(f64, f64)],
    (what, lines): (&str, &[Line<'_>]),
    named: bool,
) -> Result<(), PlotError> {
    let across = 0.0..until.since(from).as_secs_f64().max(1.0);
    let up = range(lines.iter().flat_map(|line| line.parts.iter().flatten()).map(|(_, y)| *y), true);
    let top = up.end;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(56)
        .build_cartesian_2d(across, up)
        .map_err(PlotError::of)?;
    let clock = |seconds: &f64| {
        let at = from + Duration::try_from_secs_f64(*seconds).unwrap_or_default();
        at.to_string().get(11..19).unwrap_or_default().to_owned()
    };
    let shade = RGBColor(255, 220, 200).filled();
    let spans = shaded.iter().map(|(from, to)| Rectangle::new([(*from, 0.0), (*to, top)], shade));
    chart.draw_series(spans).map_err(PlotError::of)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&clock)
        .y_desc(what)
        .draw()
        .map_err(PlotError::of)?;
    for (place, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(place).stroke_width(1);
        let paths = line.parts.iter().filter(|part| part.len() > 1);
        let paths = paths.map(|part| PathElement::new(part.clone(), colour));
        let drawn = chart.draw_series(paths).map_err(PlotError::of)?;
        if named {
            drawn.label(line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        // One alone has no line to be seen by.
        let alone = line.parts.iter().filter(|part| part.len() == 1).flatten();
        let alone = alone.map(|point| Circle::new(*point, 1, Palette99::pick(place).filled()));
        chart.draw_series(alone).map_err(PlotError::of)?;
    }
    if named && !lines.is_empty() {
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()
            .map_err(PlotError::of)?;
    }
    Ok(())
}

/// From the least to the greatest, or from zero; never empty.
fn range(values: impl Iterator<Item = f64>, from_zero: bool) -> Range<f64> {
    let (least, most) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
    if !least.is_finite() || !most.is_finite() {
        return 0.0..1.0;
    }
    let least = if from_zero { least.min(0.0) } else { least };
    let room = if from_zero { (most - least) * 0.08 } else { 0.0 };
    if most > least { least..most + room } else { least..least + 1.0 }
}
