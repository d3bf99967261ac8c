//! Pictures as SVG. Text stays text.

use std::fmt::Write;

use crate::shape::{Anchor, Color, Picture, Shape, Step};

const FONTS: &str = "Inter, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif";

pub fn render(picture: &Picture) -> String {
    let (width, height) = (picture.width, picture.height);
    let [left, top, right, bottom] = picture.clip;
    let mut output = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"{FONTS}\">\n<defs><clipPath id=\"axes\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\
         </clipPath></defs>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        short(left),
        short(top),
        short(right - left),
        short(bottom - top),
    );
    let mut within = false;
    for shape in &picture.shapes {
        let clipped =
            matches!(shape, Shape::Path { clipped: true, .. } | Shape::Circle { clipped: true, .. });
        if clipped != within {
            output.push_str(if clipped { "<g clip-path=\"url(#axes)\">\n" } else { "</g>\n" });
            within = clipped;
        }
        draw(shape, &mut output);
    }
    output.push_str(if within { "</g>\n</svg>\n" } else { "</svg>\n" });
    output
}

fn draw(shape: &Shape, output: &mut String) {
    match shape {
        Shape::Path { steps, fill, stroke, .. } => {
            output.push_str("<path d=\"");
            for step in steps {
                match *step {
                    Step::Move(x, y) => output.extend(["M", &short(x), " ", &short(y)]),
                    Step::Line(x, y) => output.extend(["L", &short(x), " ", &short(y)]),
                    Step::Curve(a, b, c, d, x, y) => {
                        let numbers = [a, b, c, d, x, y].map(short).join(" ");
                        output.extend(["C", &numbers]);
                    }
                    Step::Close => output.push('Z'),
                }
            }
            output.push('"');
            match fill {
                Some(color) => paint(output, "fill", *color),
                None => output.push_str(" fill=\"none\""),
            }
            if let Some(stroke) = stroke {
                paint(output, "stroke", stroke.color);
                let _ = write!(output, " stroke-width=\"{}\" stroke-linejoin=\"round\"", short(stroke.width));
                if stroke.dashed {
                    let _ = write!(
                        output,
                        " stroke-dasharray=\"{} {}\"",
                        short(stroke.width * 3.0),
                        short(stroke.width * 2.0)
                    );
                } else {
                    output.push_str(" stroke-linecap=\"round\"");
                }
            }
            output.push_str("/>\n");
        }
        Shape::Circle { x, y, radius, fill, .. } => {
            let _ =
                write!(output, "<circle cx=\"{}\" cy=\"{}\" r=\"{}\"", short(*x), short(*y), short(*radius));
            paint(output, "fill", *fill);
            output.push_str("/>\n");
        }
        Shape::Label(label) => {
            let (x, y) = (short(label.x), short(label.y));
            let _ = write!(output, "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\"", short(label.size));
            if label.bold {
                output.push_str(" font-weight=\"600\"");
            }
            match label.anchor {
                Anchor::Start => {}
                Anchor::Middle => output.push_str(" text-anchor=\"middle\""),
                Anchor::End => output.push_str(" text-anchor=\"end\""),
            }
            if label.turned != 0.0 {
                let _ = write!(output, " transform=\"rotate({} {x} {y})\"", short(label.turned));
            }
            paint(output, "fill", label.color);
            output.push('>');
            for letter in label.text.chars() {
                match letter {
                    '&' => output.push_str("&amp;"),
                    '<' => output.push_str("&lt;"),
                    '>' => output.push_str("&gt;"),
                    // XML has no form for the others.
                    '\u{fffe}' | '\u{ffff}' => {}
                    letter if letter.is_control() => output.push(' '),
                    letter => output.push(letter),
                }
            }
            output.push_str("</text>\n");
        }
    }
}

fn paint(output: &mut String, what: &str, color: Color) {
    let Color { red, green, blue, opacity } = color;
    let _ = write!(output, " {what}=\"#{red:02x}{green:02x}{blue:02x}\"");
    if opacity < 1.0 {
        let _ = write!(output, " {what}-opacity=\"{opacity}\"");
    }
}

/// A number with at most two decimals.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}
