//! From what a chart was given to where everything lies: the ranges of the axes, and the order of drawing.

use crate::axis::{self, Axis, Kind};
use crate::figure::{Bounds, Data, Figure, Series};
use crate::frame::{self, Frame};
use crate::marks;
use crate::pie;
use crate::shape::{Color, Picture};

/// Colours that can be told from each other, by most people who see fewer colours too.
pub const PALETTE: [u32; 10] =
    [0x4269d0, 0xefb118, 0xff725c, 0x6cc5b0, 0x3ca951, 0xff8ab7, 0xa463f2, 0x97bbf5, 0x9c6b4e, 0x9498a0];

/// Intervals of equal width, shared by all histograms of a chart.
pub struct Bins {
    pub start: f64,
    pub width: f64,
    pub count: usize,
}

pub fn picture(figure: &Figure) -> Result<Picture, String> {
    figure.check()?;
    if let Some((labels, values)) = &figure.pie {
        return Ok(pie::picture(figure, labels, values));
    }
    if figure.series.is_empty() {
        return Err(
            "there is nothing to draw: call `line`, `scatter`, `bar`, `histogram` or `pie` first".to_owned()
        );
    }
    let colors: Vec<Color> = figure
        .series
        .iter()
        .enumerate()
        .map(|(index, series)| series.color.unwrap_or(Color::new(PALETTE[index % PALETTE.len()])))
        .collect();
    let bins = bins(figure);
    let (x, y) = ranges(figure, bins.as_ref())?;
    let frame = Frame::new(figure, &colors, x, y);
    let mut shapes = frame.grid();
    // Bars and areas lie behind lines, lines behind points.
    for layer in 0..4 {
        for (index, series) in figure.series.iter().enumerate() {
            let mut draw = |shape| shapes.push(shape);
            match (&series.data, layer) {
                (Data::Histogram { values }, 0) => {
                    let Some(bins) = &bins else { continue };
                    // Several histograms are seen through each other.
                    let is_histogram = |series: &&Series| matches!(series.data, Data::Histogram { .. });
                    let several = figure.series.iter().filter(is_histogram).count() > 1;
                    let color = colors[index].with(if several { 0.6 } else { 0.9 });
                    marks::histogram(&frame, bins, &counts(bins, values), color, &mut draw);
                }
                (Data::Bar { .. }, 0) => marks::bars(&frame, figure, index, colors[index], &mut draw),
                (Data::Line { x, y, fill: true, .. }, 1) => {
                    marks::area(&frame, x, y, colors[index], &mut draw)
                }
                (Data::Line { x, y, dashed, .. }, 2) => {
                    marks::line(&frame, x, y, *dashed, colors[index], &mut draw)
                }
                // A single point is no line, and would not be seen.
                (Data::Line { x, y, markers, .. }, 3) if *markers || x.len() == 1 => {
                    marks::points(&frame, x, y, 7.0, colors[index], 1.0, &mut draw);
                }
                (Data::Scatter { x, y, size }, 3) => {
                    let opacity = match x.len() {
                        ..201 => 0.85,
                        201..2001 => 0.6,
                        _ => 0.4,
                    };
                    marks::points(&frame, x, y, *size, colors[index], opacity, &mut draw);
                }
                _ => {}
            }
        }
    }
    frame.axes(&mut shapes);
    frame::heading(figure, &frame.legend, &mut shapes);
    let clip = [frame.left, frame.top, frame.right, frame.bottom];
    Ok(Picture { width: figure.width, height: figure.height, clip, shapes })
}

fn bins(figure: &Figure) -> Option<Bins> {
    let all: Vec<&[f64]> = figure
        .series
        .iter()
        .filter_map(|series| match &series.data {
            Data::Histogram { values } => Some(values.as_slice()),
            _ => None,
        })
        .collect();
    let values = || all.iter().flat_map(|values| values.iter().copied());
    let (mut min, mut max) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    if all.is_empty() {
        return None;
    }
    if max - min < min.abs().max(max.abs()) * 1e-9 || max == min {
        let around = if min == 0.0 { 0.5 } else { min.abs() * 0.05 };
        (min, max) = (min - around, max + around);
    }
    if let Some(count) = figure.bins {
        return Some(Bins { start: min, width: (max - min) / f64::from(count), count: count as usize });
    }
    // Freedman and Diaconis: twice the quartiles' distance by the cube root of the number; with round edges.
    let mut sorted: Vec<f64> = values().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let quartiles = sorted[sorted.len() * 3 / 4] - sorted[sorted.len() / 4];
    let width = 2.0 * quartiles / (sorted.len() as f64).cbrt();
    let width = width.clamp((max - min) / 60.0, (max - min) / 5.0);
    let width = axis::step(width);
    let start = (min / width).floor() * width;
    let count = (((max - start) / width).floor() as usize + 1).clamp(1, 500);
    Some(Bins { start, width, count })
}

fn counts(bins: &Bins, values: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; bins.count];
    for value in values {
        // The last interval holds its end.
        let bin = ((value - bins.start) / bins.width) as usize;
        counts[bin.min(bins.count - 1)] += 1.0;
    }
    counts
}

/// The least and the largest number so far.
#[derive(Clone, Copy)]
struct Range {
    min: f64,
    max: f64,
}

impl Range {
    fn add(&mut self, value: f64, kind: Kind) {
        if value.is_finite() && (kind != Kind::Log || value > 0.0) {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
    }
}

/// The axes, without their pixels.
fn ranges(figure: &Figure, bins: Option<&Bins>) -> Result<(Axis, Axis), String> {
    let (x_kind, y_kind) = (figure.x.kind, figure.y.kind);
    let none = Range { min: f64::MAX, max: f64::MIN };
    let (mut x, mut y) = (none, none);
    let mut from_zero = false;
    let mut padded = false;
    for (index, series) in figure.series.iter().enumerate() {
        match &series.data {
            Data::Line { x: xs, y: ys, fill, .. } => {
                from_zero |= fill;
                padded |= xs.len() == 1;
                add_pairs(&mut x, &mut y, xs, ys, figure);
            }
            Data::Scatter { x: xs, y: ys, .. } => {
                padded = true;
                add_pairs(&mut x, &mut y, xs, ys, figure);
            }
            Data::Bar { .. } => {
                from_zero = true;
                for (low, high) in marks::stacks(figure, index) {
                    y.add(low, y_kind);
                    y.add(high, y_kind);
                }
            }
            Data::Histogram { values } => {
                from_zero = true;
                for count in bins.map(|bins| counts(bins, values)).unwrap_or_default() {
                    y.add(count, y_kind);
                }
            }
        }
    }
    if !figure.labels.is_empty() {
        x.add(-0.5, x_kind);
        x.add(figure.labels.len() as f64 - 0.5, x_kind);
    }
    if let Some(bins) = bins {
        x.add(bins.start, x_kind);
        x.add(bins.start + bins.width * bins.count as f64, x_kind);
    }
    if x.min > x.max || y.min > y.max {
        let why = if x_kind == Kind::Log || y_kind == Kind::Log {
            " above zero, as a logarithmic axis needs"
        } else {
            ""
        };
        return Err(format!("there is nothing to draw: no point has finite numbers{why}"));
    }
    if from_zero && y_kind != Kind::Log {
        y.add(0.0, y_kind);
    }
    // Bars that begin at the smallest of them would not be seen.
    if from_zero && y_kind == Kind::Log {
        y.min /= 2.0;
    }
    let x = bounded('x', figure.x, widened(x, x_kind, if padded { 0.04 } else { 0.0 }))?;
    let y = widened(y, y_kind, if from_zero || y_kind == Kind::Log { 0.0 } else { 0.02 });
    let y = bounded('y', figure.y, rounded(y, y_kind, (f64::from(figure.height) / 80.0).max(3.0)))?;
    Ok((x, y))
}

/// Adds points, those only that the other axis shows.
fn add_pairs(x: &mut Range, y: &mut Range, xs: &[f64], ys: &[f64], figure: &Figure) {
    let shown = |bounds: &Bounds, value: f64| {
        bounds.min.is_none_or(|min| value >= min) && bounds.max.is_none_or(|max| value <= max)
    };
    for (a, b) in xs.iter().zip(ys) {
        let drawable = a.is_finite()
            && b.is_finite()
            && (figure.x.kind != Kind::Log || *a > 0.0)
            && (figure.y.kind != Kind::Log || *b > 0.0);
        if drawable {
            x.add(*a, figure.x.kind);
            if shown(&figure.x, *a) {
                y.add(*b, figure.y.kind);
            }
        }
    }
    // Nothing is shown, but the axis has to have a range.
    if y.min > y.max && x.min <= x.max {
        ys.iter().for_each(|value| y.add(*value, figure.y.kind));
    }
}

fn widened(range: Range, kind: Kind, share: f64) -> Range {
    let Range { min, max } = range;
    if kind == Kind::Log {
        let factor = (max / min).powf(share).max(if max / min < 1.01 { 2.0 } else { 1.0 });
        return Range { min: min / factor, max: max * factor };
    }
    let size = min.abs().max(max.abs());
    let around = match kind {
        _ if max - min > size * 1e-9 => (max - min) * share,
        Kind::Time => 43_200.0,
        _ if size == 0.0 => 1.0,
        _ => size * 0.1,
    };
    Range { min: min - around, max: max + around }
}

/// Up to the next ticks on both sides.
fn rounded(range: Range, kind: Kind, ticks: f64) -> Range {
    let Range { min, max } = range;
    if kind == Kind::Log {
        if max / min < 10.0 {
            return Range { min: min / 1.1, max: max * 1.1 };
        }
        let power = |value: f64, up: bool| {
            let power = value.log10();
            10f64.powf(if up { (power - 1e-9).ceil() } else { (power + 1e-9).floor() })
        };
        return Range { min: power(min, false), max: power(max, true).max(max) };
    }
    let step = axis::step((max - min) / ticks);
    Range { min: ((min / step) + 1e-9).floor() * step, max: ((max / step) - 1e-9).ceil() * step }
}

fn bounded(name: char, bounds: Bounds, range: Range) -> Result<Axis, String> {
    let (min, max) = (bounds.min.unwrap_or(range.min), bounds.max.unwrap_or(range.max));
    if min >= max
        || !(max - min).is_finite()
        || (bounds.kind == Kind::Log && !(min > 0.0 && (max / min).is_finite()))
    {
        return Err(format!(
            "axis {name} would go from {min} to {max}: set both `{name}_min` and `{name}_max`"
        ));
    }
    Ok(Axis { kind: bounds.kind, min, max, from: 0.0, to: 0.0 })
}
