//! Pictures as PNG.

use tiny_skia::{
    FillRule, LineCap, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, Rect, StrokeDash, Transform,
};
use ttf_parser::OutlineBuilder;

use crate::font;
use crate::shape::{Anchor, Color, Label, Picture, Shape, Step};

/// Pixels in all: four bytes each, twice.
const PIXELS: f64 = 16e6;

/// # Errors
///
/// That the scale is none, or makes too large an image.
pub fn render(picture: &Picture, scale: Option<f64>) -> Result<Vec<u8>, String> {
    let scale = scale.unwrap_or(2.0);
    if !(0.5..=4.0).contains(&scale) {
        return Err(format!("`scale` is {scale}: give one from 0.5 to 4"));
    }
    let (width, height) = (f64::from(picture.width) * scale, f64::from(picture.height) * scale);
    if width * height > PIXELS {
        return Err(format!(
            "{width:.0} by {height:.0} pixels are more than 16 million: give a smaller `scale`"
        ));
    }
    let wrong = || "cannot draw: the image is too large".to_owned();
    let (width, height) = (width.round() as u32, height.round() as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(wrong)?;
    pixels.fill(tiny_skia::Color::WHITE);
    let transform = Transform::from_scale(scale as f32, scale as f32);
    let mut mask = Mask::new(width, height).ok_or_else(wrong)?;
    let [left, top, right, bottom] = picture.clip.map(|side| side as f32);
    if let Some(axes) = Rect::from_ltrb(left, top, right, bottom) {
        mask.fill_path(&PathBuilder::from_rect(axes), FillRule::Winding, true, transform);
    }
    for shape in &picture.shapes {
        draw(shape, &mut pixels, transform, &mask);
    }
    pixels.encode_png().map_err(|error| format!("cannot make the PNG: {error}"))
}

fn draw(shape: &Shape, pixels: &mut Pixmap, transform: Transform, mask: &Mask) {
    match shape {
        Shape::Path { steps, fill, stroke, clipped } => {
            let Some(path) = path(steps) else { return };
            let mask = clipped.then_some(mask);
            if let Some(color) = fill {
                pixels.fill_path(&path, &paint(*color), FillRule::Winding, transform, mask);
            }
            if let Some(stroke) = stroke {
                let width = stroke.width as f32;
                let style = tiny_skia::Stroke {
                    width,
                    line_cap: if stroke.dashed { LineCap::Butt } else { LineCap::Round },
                    line_join: LineJoin::Round,
                    dash: stroke
                        .dashed
                        .then(|| StrokeDash::new(vec![width * 3.0, width * 2.0], 0.0))
                        .flatten(),
                    ..tiny_skia::Stroke::default()
                };
                pixels.stroke_path(&path, &paint(stroke.color), &style, transform, mask);
            }
        }
        Shape::Circle { x, y, radius, fill, clipped } => {
            if let Some(path) = PathBuilder::from_circle(*x as f32, *y as f32, *radius as f32) {
                pixels.fill_path(&path, &paint(*fill), FillRule::Winding, transform, clipped.then_some(mask));
            }
        }
        Shape::Label(label) => {
            if let Some((path, turned)) = outline(label) {
                let transform = turned.post_concat(transform);
                pixels.fill_path(&path, &paint(label.color), FillRule::Winding, transform, None);
            }
        }
    }
}

fn paint(color: Color) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(color.red, color.green, color.blue, (color.opacity * 255.0).round() as u8);
    paint
}

fn path(steps: &[Step]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for step in steps {
        match *step {
            Step::Move(x, y) => builder.move_to(x as f32, y as f32),
            Step::Line(x, y) => builder.line_to(x as f32, y as f32),
            Step::Curve(a, b, c, d, x, y) => {
                builder.cubic_to(a as f32, b as f32, c as f32, d as f32, x as f32, y as f32);
            }
            Step::Close => builder.close(),
        }
    }
    builder.finish()
}

/// The letters of a label, and how they are placed.
fn outline(label: &Label) -> Option<(Path, Transform)> {
    let face = font::face(label.bold);
    let mut outline = Outline { builder: PathBuilder::new(), offset: 0.0 };
    for letter in label.text.chars() {
        let glyph = face.glyph_index(letter).unwrap_or_default();
        face.outline_glyph(glyph, &mut outline);
        outline.offset += f32::from(face.glyph_hor_advance(glyph).unwrap_or_default());
    }
    let scale = label.size as f32 / f32::from(face.units_per_em());
    let before = match label.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => outline.offset / 2.0,
        Anchor::End => outline.offset,
    };
    // Letters have y upwards.
    let transform = Transform::from_translate(-before, 0.0)
        .post_scale(scale, -scale)
        .post_rotate(label.turned as f32)
        .post_translate(label.x as f32, label.y as f32);
    Some((outline.builder.finish()?, transform))
}

struct Outline {
    builder: PathBuilder,
    offset: f32,
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.builder.move_to(x + self.offset, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.builder.line_to(x + self.offset, y);
    }

    fn quad_to(&mut self, a: f32, b: f32, x: f32, y: f32) {
        self.builder.quad_to(a + self.offset, b, x + self.offset, y);
    }

    fn curve_to(&mut self, a: f32, b: f32, c: f32, d: f32, x: f32, y: f32) {
        self.builder.cubic_to(a + self.offset, b, c + self.offset, d, x + self.offset, y);
    }

    fn close(&mut self) {
        self.builder.close();
    }
}
