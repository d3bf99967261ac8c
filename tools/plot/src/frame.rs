//! What is around the data: title, legend, axes, grid.

use crate::axis::{Axis, Tick};
use crate::figure::{Data, Figure};
use crate::font;
use crate::shape::{Anchor, Color, Label, Shape, Step, Stroke, rectangle};

pub const INK: Color = Color::new(0x1f2328);
pub const MUTED: Color = Color::new(0x59636e);
const GRID: Color = Color::new(0xe4e7eb);
const LINE: Color = Color::new(0x8c939b);
pub const MARGIN: f64 = 22.0;
const TICK: f64 = 12.0;
const NAME: f64 = 13.0;
pub const TITLE: f64 = 18.0;
/// Rows of the legend.
const ROWS: usize = 5;
const ROW: f64 = 22.0;

/// A name in the legend, and where it stands.
pub struct Key {
    name: String,
    color: Color,
    /// A line, and not a box; a dashed one.
    line: Option<bool>,
    x: f64,
    y: f64,
}

pub struct Frame {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: Axis,
    pub y: Axis,
    pub legend: Vec<Key>,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    /// Whether the labels of the axis x are turned, because they are too wide to stand side by side.
    turned: bool,
    categories: bool,
    x_label: Option<String>,
    y_label: Option<String>,
    height: f64,
}

impl Frame {
    pub fn new(figure: &Figure, colors: &[Color], mut x: Axis, mut y: Axis) -> Self {
        let (width, height) = (f64::from(figure.width), f64::from(figure.height));
        let mut top = MARGIN + if figure.title.is_some() { 32.0 } else { 0.0 };
        let legend = legend(figure, colors, top);
        if let Some(last) = legend.last() {
            top = last.y + ROW + 10.0;
        }
        let y_name = if figure.y_label.is_some() { 24.0 } else { 0.0 };
        let x_name = if figure.x_label.is_some() { 22.0 } else { 0.0 };
        // The height is needed for the ticks of y, whose width is needed for those of x, whose
        // labels decide on the height: they are laid out flat first.
        let mut bottom = height - MARGIN - x_name - 20.0;
        (y.from, y.to) = (bottom, top);
        let y_ticks = y.ticks(((bottom - top) / 58.0).max(3.0) as usize);
        let widest = y_ticks.iter().map(|tick| font::width(&tick.label, TICK, false)).fold(0.0, f64::max);
        let left = (MARGIN + y_name + widest + 10.0).min(width / 2.0);
        let right = width - MARGIN - 6.0;
        (x.from, x.to) = (left, right);
        let categories = !figure.labels.is_empty();
        let (x_ticks, turned) = if categories {
            category_ticks(&figure.labels, right - left)
        } else {
            (fitting(&x, right - left), false)
        };
        if turned {
            let widest = x_ticks.iter().map(|tick| font::width(&tick.label, TICK, false)).fold(0.0, f64::max);
            bottom -= (widest * 0.62).min(height / 3.0);
        }
        (y.from, y.to) = (bottom, top);
        let (x_label, y_label) = (figure.x_label.clone(), figure.y_label.clone());
        Frame {
            left,
            top,
            right,
            bottom,
            x,
            y,
            legend,
            x_ticks,
            y_ticks,
            turned,
            categories,
            x_label,
            y_label,
            height,
        }
    }

    pub fn grid(&self) -> Vec<Shape> {
        let stroke = Some(Stroke { color: GRID, width: 1.0, dashed: false });
        let line = |from: (f64, f64), to: (f64, f64)| Shape::Path {
            steps: vec![Step::Move(from.0, from.1), Step::Line(to.0, to.1)],
            fill: None,
            stroke,
            clipped: false,
        };
        let mut shapes: Vec<Shape> = self
            .y_ticks
            .iter()
            .map(|tick| sharp(self.y.place(tick.value)))
            .map(|y| line((self.left, y), (self.right, y)))
            .collect();
        if !self.categories {
            let places = self.x_ticks.iter().map(|tick| sharp(self.x.place(tick.value)));
            shapes.extend(places.map(|x| line((x, self.top), (x, self.bottom))));
        }
        shapes
    }

    pub fn axes(&self, shapes: &mut Vec<Shape>) {
        let label = |text: &str, x: f64, y: f64, anchor: Anchor, turned: f64| {
            Shape::Label(Label {
                text: text.to_owned(),
                x,
                y,
                size: TICK,
                bold: false,
                color: MUTED,
                anchor,
                turned,
            })
        };
        let zero = if self.y.min < 0.0 && self.y.max > 0.0 { self.y.place(0.0) } else { self.bottom };
        for y in [zero, self.bottom] {
            let y = sharp(y);
            shapes.push(Shape::Path {
                steps: vec![Step::Move(self.left, y), Step::Line(self.right, y)],
                fill: None,
                stroke: Some(Stroke { color: LINE, width: 1.0, dashed: false }),
                clipped: false,
            });
            if zero == self.bottom {
                break;
            }
        }
        for tick in &self.y_ticks {
            shapes.push(label(
                &tick.label,
                self.left - 8.0,
                self.y.place(tick.value) + 4.2,
                Anchor::End,
                0.0,
            ));
        }
        for tick in &self.x_ticks {
            let x = self.x.place(tick.value);
            shapes.push(if self.turned {
                // A turned label does not leave the picture either.
                let text = font::fit(&tick.label, TICK, false, (x - 4.0).max(20.0) / 0.79);
                label(&text, x + 5.0, self.bottom + 14.0, Anchor::End, -38.0)
            } else {
                // Labels at the ends do not leave the picture.
                let half = font::width(&tick.label, TICK, false) / 2.0;
                let x = x.min(self.right + MARGIN - half).max(half + 4.0);
                label(&tick.label, x, self.bottom + 18.0, Anchor::Middle, 0.0)
            });
        }
        let name = |text: &str, most: f64, x: f64, y: f64, turned: f64| {
            let text = font::fit(text, NAME, false, most);
            Shape::Label(Label {
                text,
                x,
                y,
                size: NAME,
                bold: false,
                color: INK,
                anchor: Anchor::Middle,
                turned,
            })
        };
        if let Some(text) = &self.x_label {
            let middle = (self.left + self.right) / 2.0;
            shapes.push(name(text, self.right - self.left, middle, self.height - MARGIN + 4.0, 0.0));
        }
        if let Some(text) = &self.y_label {
            let middle = (self.top + self.bottom) / 2.0;
            shapes.push(name(text, self.bottom - self.top, MARGIN + 8.0, middle, -90.0));
        }
    }
}

/// The middle of a pixel, where a thin line is sharp.
fn sharp(place: f64) -> f64 {
    place.floor() + 0.5
}

/// Ticks whose labels do not run into each other.
fn fitting(axis: &Axis, room: f64) -> Vec<Tick> {
    let mut count = (room / 70.0).max(2.0) as usize;
    loop {
        let ticks = axis.ticks(count);
        let widest = ticks.iter().map(|tick| font::width(&tick.label, TICK, false)).fold(0.0, f64::max);
        let places = ticks.windows(2).map(|pair| axis.place(pair[1].value) - axis.place(pair[0].value));
        if count <= 2 || places.fold(f64::MAX, f64::min) > widest + 14.0 {
            return ticks;
        }
        count -= 1;
    }
}

/// A tick for each label or, of very many, each second, third… one; and whether they are turned.
fn category_ticks(labels: &[String], room: f64) -> (Vec<Tick>, bool) {
    let band = room / labels.len() as f64;
    let widest = labels.iter().take(500).map(|label| font::width(label, TICK, false)).fold(0.0, f64::max);
    let turned = widest + 8.0 > band;
    let every = if turned { (18.0 / band).ceil().max(1.0) as usize } else { 1 };
    let ticks = labels.iter().enumerate().step_by(every).map(|(index, label)| Tick {
        value: index as f64,
        label: if turned { font::fit(label, TICK, false, 190.0) } else { label.clone() },
    });
    (ticks.collect(), turned)
}

fn legend(figure: &Figure, colors: &[Color], top: f64) -> Vec<Key> {
    let most = f64::from(figure.width) - 2.0 * MARGIN;
    let mut keys: Vec<Key> = Vec::new();
    let (mut x, mut y) = (MARGIN, top + 4.0);
    let last_row = top + 4.0 + ROW * (ROWS - 1) as f64;
    let named = figure
        .series
        .iter()
        .zip(colors)
        .filter_map(|(series, color)| Some((series, color, series.name.as_ref()?)));
    for (series, color, name) in named {
        let name = font::fit(name, NAME, false, (most - 40.0).min(300.0));
        let width = 24.0 + font::width(&name, NAME, false) + 20.0;
        if x + width - 20.0 > MARGIN + most && x > MARGIN {
            (x, y) = (MARGIN, y + ROW);
        }
        if y > last_row {
            break;
        }
        let line = match series.data {
            Data::Line { dashed, .. } => Some(dashed),
            _ => None,
        };
        keys.push(Key { name, color: *color, line, x, y });
        x += width;
    }
    keys
}

/// The title and the legend.
pub fn heading(figure: &Figure, legend: &[Key], shapes: &mut Vec<Shape>) {
    if let Some(title) = &figure.title {
        let text = font::fit(title, TITLE, true, f64::from(figure.width) - 2.0 * MARGIN);
        let (x, y) = (MARGIN, MARGIN + 14.0);
        shapes.push(Shape::Label(Label {
            text,
            x,
            y,
            size: TITLE,
            bold: true,
            color: INK,
            anchor: Anchor::Start,
            turned: 0.0,
        }));
    }
    for key in legend {
        let (x, y) = (key.x, key.y);
        shapes.push(match key.line {
            Some(dashed) => Shape::Path {
                steps: vec![Step::Move(x, y + 6.0), Step::Line(x + 16.0, y + 6.0)],
                fill: None,
                stroke: Some(Stroke { color: key.color, width: 2.6, dashed }),
                clipped: false,
            },
            None => {
                let steps = rectangle(x + 2.0, y, x + 14.0, y + 12.0);
                Shape::Path { steps, fill: Some(key.color), stroke: None, clipped: false }
            }
        });
        let (text, x, y) = (key.name.clone(), x + 22.0, y + 10.6);
        shapes.push(Shape::Label(Label {
            text,
            x,
            y,
            size: NAME,
            bold: false,
            color: INK,
            anchor: Anchor::Start,
            turned: 0.0,
        }));
    }
}
