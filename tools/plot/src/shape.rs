//! What a chart consists of when it is laid out, whether it becomes SVG or PNG.

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Color {
    pub red: u8,
    pub green: u8,
    pub blue: u8,
    /// From 0, transparent, to 1.
    pub opacity: f32,
}

impl Color {
    pub const fn new(rgb: u32) -> Self {
        Color { red: (rgb >> 16) as u8, green: (rgb >> 8) as u8, blue: rgb as u8, opacity: 1.0 }
    }

    pub const fn with(self, opacity: f32) -> Self {
        Color { opacity, ..self }
    }

    /// # Errors
    ///
    /// Which colours there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named = match &*text.to_lowercase() {
            "black" => 0x1f2328,
            "gray" | "grey" => 0x8c939b,
            "red" => 0xe0433a,
            "orange" => 0xf28e2b,
            "yellow" => 0xefb118,
            "green" => 0x3ca951,
            "teal" => 0x38a89d,
            "blue" => 0x4269d0,
            "purple" => 0xa463f2,
            "pink" => 0xff8ab7,
            "brown" => 0x9c6b4e,
            hex => {
                let digits = hex
                    .strip_prefix('#')
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let digits = match digits {
                    Some(short) if short.len() == 3 => {
                        short.chars().flat_map(|digit| [digit, digit]).collect()
                    }
                    Some(digits) if digits.len() == 6 => digits.to_owned(),
                    _ => {
                        return Err(format!(
                            "`{}` is no colour: give `#rrggbb`, `#rgb`, or black, gray, red, orange, yellow, green, \
                             teal, blue, purple, pink, brown",
                            text.escape_debug()
                        ));
                    }
                };
                u32::from_str_radix(&digits, 16).unwrap_or_default()
            }
        };
        Ok(Color::new(named))
    }
}

#[derive(Clone, Copy)]
pub enum Step {
    Move(f64, f64),
    Line(f64, f64),
    /// Two control points, and where it ends.
    Curve(f64, f64, f64, f64, f64, f64),
    Close,
}

#[derive(Clone, Copy)]
pub struct Stroke {
    pub color: Color,
    pub width: f64,
    pub dashed: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone)]
pub struct Label {
    pub text: String,
    pub x: f64,
    /// Of the base line.
    pub y: f64,
    pub size: f64,
    pub bold: bool,
    pub color: Color,
    pub anchor: Anchor,
    /// Degrees, clockwise.
    pub turned: f64,
}

pub enum Shape {
    /// `clipped`: only what lies within the axes is seen.
    Path {
        steps: Vec<Step>,
        fill: Option<Color>,
        stroke: Option<Stroke>,
        clipped: bool,
    },
    Circle {
        x: f64,
        y: f64,
        radius: f64,
        fill: Color,
        clipped: bool,
    },
    Label(Label),
}

/// A chart that is laid out.
pub struct Picture {
    pub width: u32,
    pub height: u32,
    /// Where what is clipped is seen: left, top, right, bottom.
    pub clip: [f64; 4],
    pub shapes: Vec<Shape>,
}

pub fn rectangle(left: f64, top: f64, right: f64, bottom: f64) -> Vec<Step> {
    vec![
        Step::Move(left, top),
        Step::Line(right, top),
        Step::Line(right, bottom),
        Step::Line(left, bottom),
        Step::Close,
    ]
}
