//! Drawings as SVG text. Fonts are the reader's own, and nothing is loaded from anywhere.

use std::ops::Range;

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
