//! Pie charts: a ring, and its shares beside it.

use std::f64::consts::TAU;

use crate::figure::Figure;
use crate::font;
use crate::frame::{INK, MARGIN, MUTED, heading};
use crate::layout::PALETTE;
use crate::shape::{Anchor, Color, Label, Picture, Shape, Step, Stroke, rectangle};

pub fn picture(figure: &Figure, labels: &[String], values: &[f64]) -> Picture {
    let (width, height) = (f64::from(figure.width), f64::from(figure.height));
    let mut shapes = Vec::new();
    let top = MARGIN + if figure.title.is_some() { 36.0 } else { 0.0 };
    let (room, bottom) = (width - 2.0 * MARGIN, height - MARGIN);
    let radius = ((bottom - top) / 2.0).min(room * 0.27);
    let middle = (MARGIN + radius + room * 0.04, (top + bottom) / 2.0);
    // Added up in parts, so that the largest numbers do not overflow.
    let sum: f64 = values.iter().map(|value| value / 1024.0).sum();
    let shares: Vec<f64> = values.iter().map(|value| value / 1024.0 / sum).collect();
    let color = |index: usize| {
        // After the last colour they begin again, lighter.
        Color::new(PALETTE[index % PALETTE.len()]).with([1.0, 0.65, 0.4][(index / PALETTE.len()).min(2)])
    };
    let mut angle = -TAU / 4.0;
    for (index, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let end = angle + share * TAU;
        shapes.push(Shape::Path {
            steps: ring(middle, radius, radius * 0.56, angle, end),
            fill: Some(color(index)),
            stroke: Some(Stroke { color: Color::new(0xffffff), width: 1.5, dashed: false }),
            clipped: false,
        });
        angle = end;
    }
    let row = ((bottom - top) / labels.len() as f64).min(26.0);
    let size = (row * 0.62).min(13.5);
    let left = middle.0 + radius + 40.0;
    let mut y = middle.1 - row * labels.len() as f64 / 2.0;
    let label = |text: String, x: f64, y: f64, color: Color, anchor: Anchor| {
        Shape::Label(Label { text, x, y, size, bold: false, color, anchor, turned: 0.0 })
    };
    let column = (width - MARGIN - left).min(250.0);
    for (index, (text, share)) in labels.iter().zip(&shares).enumerate() {
        let (base, side) = (y + row / 2.0 + size * 0.36, size * 0.9);
        let steps = rectangle(left, base - side * 0.85, left + side, base + side * 0.15);
        shapes.push(Shape::Path { steps, fill: Some(color(index)), stroke: None, clipped: false });
        let text = font::fit(text, size, false, column - side - 70.0);
        shapes.push(label(text, left + side + 9.0, base, INK, Anchor::Start));
        let percent = match share * 100.0 {
            percent if *share > 0.0 && percent < 0.1 => "<0.1 %".to_owned(),
            percent => format!("{percent:.1} %"),
        };
        shapes.push(label(percent, left + column, base, MUTED, Anchor::End));
        y += row;
    }
    heading(figure, &[], &mut shapes);
    Picture { width: figure.width, height: figure.height, clip: [0.0, 0.0, width, height], shapes }
}

/// A part of a ring between two angles, clockwise.
fn ring(middle: (f64, f64), outer: f64, inner: f64, from: f64, to: f64) -> Vec<Step> {
    let at = |radius: f64, angle: f64| (middle.0 + radius * angle.cos(), middle.1 + radius * angle.sin());
    let arc = |radius: f64, from: f64, to: f64, steps: &mut Vec<Step>| {
        // A curve follows a circle well for an eighth of it.
        let count = ((to - from).abs() / (TAU / 8.0)).ceil().max(1.0);
        let part = (to - from) / count;
        let reach = radius * 4.0 / 3.0 * (part / 4.0).tan();
        for index in 0..count as usize {
            let (start, end) = (from + part * index as f64, from + part * (index + 1) as f64);
            let ((ax, ay), (bx, by)) = (at(radius, start), at(radius, end));
            let (out, back) =
                ((-reach * start.sin(), reach * start.cos()), (reach * end.sin(), -reach * end.cos()));
            steps.push(Step::Curve(ax + out.0, ay + out.1, bx + back.0, by + back.1, bx, by));
        }
    };
    let (start, turn) = (at(outer, from), at(inner, to));
    let mut steps = vec![Step::Move(start.0, start.1)];
    arc(outer, from, to, &mut steps);
    steps.push(Step::Line(turn.0, turn.1));
    arc(inner, to, from, &mut steps);
    steps.push(Step::Close);
    steps
}
