//! Lines, points, bars.

use std::collections::HashSet;

use crate::axis::Kind;
use crate::figure::{Data, Figure};
use crate::frame::Frame;
use crate::layout::Bins;
use crate::shape::{Color, Shape, Step, Stroke, rectangle};

/// The pixels of a point, unless it is a gap.
fn place(frame: &Frame, x: f64, y: f64) -> Option<(f64, f64)> {
    let drawable = |value: f64, kind: Kind| value.is_finite() && (kind != Kind::Log || value > 0.0);
    (drawable(x, frame.x.kind) && drawable(y, frame.y.kind)).then(|| (frame.x.place(x), frame.y.place(y)))
}

/// The pieces of a line between its gaps. Of points in the same column of pixels, which follow each
/// other, the first, the last, the highest and the lowest remain: the rest would not be seen.
fn pieces(frame: &Frame, x: &[f64], y: &[f64]) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<(f64, f64)> = Vec::new();
    let mut column: Vec<(f64, f64)> = Vec::new();
    let flush = |column: &mut Vec<(f64, f64)>, piece: &mut Vec<(f64, f64)>| {
        if column.len() > 4 {
            let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let (low, high) =
                (column.iter().min_by(by_height).copied(), column.iter().max_by(by_height).copied());
            piece.extend(
                column.first().copied().into_iter().chain(low).chain(high).chain(column.last().copied()),
            );
            column.clear();
        } else {
            piece.append(column);
        }
    };
    for (x, y) in x.iter().zip(y) {
        match place(frame, *x, *y) {
            Some(point) => {
                if column.last().is_some_and(|last| last.0.floor() != point.0.floor()) {
                    flush(&mut column, &mut piece);
                }
                column.push(point);
            }
            None => {
                flush(&mut column, &mut piece);
                pieces.push(std::mem::take(&mut piece));
            }
        }
    }
    flush(&mut column, &mut piece);
    pieces.push(piece);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn steps(piece: &[(f64, f64)]) -> Vec<Step> {
    piece
        .iter()
        .enumerate()
        .map(|(index, (x, y))| if index == 0 { Step::Move(*x, *y) } else { Step::Line(*x, *y) })
        .collect()
}

pub fn line(frame: &Frame, x: &[f64], y: &[f64], dashed: bool, color: Color, draw: &mut dyn FnMut(Shape)) {
    let stroke = Stroke { color, width: 2.2, dashed };
    for piece in pieces(frame, x, y) {
        if let [(x, y)] = piece[..] {
            draw(Shape::Circle { x, y, radius: 2.2, fill: color, clipped: true });
        } else {
            draw(Shape::Path { steps: steps(&piece), fill: None, stroke: Some(stroke), clipped: true });
        }
    }
}

pub fn area(frame: &Frame, x: &[f64], y: &[f64], color: Color, draw: &mut dyn FnMut(Shape)) {
    let base = base(frame);
    for piece in pieces(frame, x, y) {
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else { continue };
        let mut steps = steps(&piece);
        steps.extend([Step::Line(last.0, base), Step::Line(first.0, base), Step::Close]);
        draw(Shape::Path { steps, fill: Some(color.with(0.18)), stroke: None, clipped: true });
    }
}

/// The pixel of zero, or of the end of the axis that is nearer to it.
fn base(frame: &Frame) -> f64 {
    match frame.y.kind {
        Kind::Log => frame.bottom,
        _ => frame.y.place(0f64.clamp(frame.y.min, frame.y.max)),
    }
}

pub fn points(
    frame: &Frame,
    x: &[f64],
    y: &[f64],
    size: f64,
    color: Color,
    opacity: f32,
    draw: &mut dyn FnMut(Shape),
) {
    // Points on the same half pixel are one or, of very many, on the same pixel.
    let grid = if x.len() > 20_000 { 1.0 } else { 2.0 };
    let mut seen = HashSet::new();
    for (x, y) in x.iter().zip(y) {
        let Some((x, y)) = place(frame, *x, *y) else { continue };
        // Those at the edge are drawn whole, those beyond it not at all.
        let outside =
            x < frame.left - 0.5 || x > frame.right + 0.5 || y < frame.top - 0.5 || y > frame.bottom + 0.5;
        if !outside && seen.insert(((x * grid).round() as i32, (y * grid).round() as i32)) {
            draw(Shape::Circle { x, y, radius: size / 2.0, fill: color.with(opacity), clipped: false });
        }
    }
}

/// Where each bar of a series begins and ends: on top of those that it is stacked on.
pub fn stacks(figure: &Figure, index: usize) -> Vec<(f64, f64)> {
    let mut above = vec![0.0; figure.labels.len()];
    let mut below = above.clone();
    let mut ends = Vec::new();
    for series in &figure.series[..=index] {
        let Data::Bar { values, stacked } = &series.data else { continue };
        if !stacked {
            above.fill(0.0);
            below.fill(0.0);
        }
        ends = values
            .iter()
            .zip(above.iter_mut().zip(&mut below))
            .map(|(value, (above, below))| {
                let start = if *value < 0.0 { below } else { above };
                let from = *start;
                if !value.is_nan() {
                    *start += value;
                }
                (from, if value.is_nan() { f64::NAN } else { *start })
            })
            .collect();
    }
    ends
}

pub fn bars(frame: &Frame, figure: &Figure, index: usize, color: Color, draw: &mut dyn FnMut(Shape)) {
    // Series that are not stacked stand beside each other.
    let (mut slots, mut slot) = (0, 0);
    for (place, series) in figure.series.iter().enumerate() {
        if let Data::Bar { stacked, .. } = series.data {
            slots += usize::from(!stacked || slots == 0);
            if place == index {
                slot = slots - 1;
            }
        }
    }
    let band = (frame.x.place(1.0) - frame.x.place(0.0)).abs();
    let group = band * if slots == 1 { 0.68 } else { 0.8 };
    let width = group / slots as f64;
    let gap = if width > 6.0 { 1.0 } else { 0.0 };
    for (label, (from, to)) in stacks(figure, index).into_iter().enumerate() {
        if to.is_nan() || from == to {
            continue;
        }
        let left = frame.x.place(label as f64) - group / 2.0 + width * slot as f64 + gap / 2.0;
        let right = (left + width - gap).max(left + 0.5);
        let from = if from == 0.0 { base(frame) } else { frame.y.place(from) };
        let to = frame.y.place(to);
        draw(Shape::Path {
            steps: rectangle(left, to, right, from),
            fill: Some(color),
            stroke: None,
            clipped: true,
        });
    }
}

pub fn histogram(frame: &Frame, bins: &Bins, counts: &[f64], color: Color, draw: &mut dyn FnMut(Shape)) {
    let base = base(frame);
    for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
        let start = bins.start + bins.width * index as f64;
        if frame.x.kind == Kind::Log && start <= 0.0 {
            continue;
        }
        let (left, right) = (frame.x.place(start), frame.x.place(start + bins.width));
        let gap = if right - left > 4.0 { 0.5 } else { 0.0 };
        let steps = rectangle(left + gap, frame.y.place(*count), right - gap, base);
        draw(Shape::Path { steps, fill: Some(color), stroke: None, clipped: true });
    }
}
