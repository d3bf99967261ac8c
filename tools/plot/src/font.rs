//! The embedded font.

use std::sync::OnceLock;

use ttf_parser::Face;

pub fn face(bold: bool) -> &'static Face<'static> {
    static REGULAR: OnceLock<Face<'static>> = OnceLock::new();
    static BOLD: OnceLock<Face<'static>> = OnceLock::new();
    let parse = |data| Face::parse(data, 0).expect("the embedded font is a font");
    match bold {
        false => REGULAR.get_or_init(|| parse(include_bytes!("../fonts/Inter-Regular.ttf"))),
        true => BOLD.get_or_init(|| parse(include_bytes!("../fonts/Inter-SemiBold.ttf"))),
    }
}

/// How wide a text is at a size, in pixels.
pub fn width(text: &str, size: f64, bold: bool) -> f64 {
    let face = face(bold);
    let units: u32 = text
        .chars()
        .map(|letter| {
            u32::from(
                face.glyph_hor_advance(face.glyph_index(letter).unwrap_or_default()).unwrap_or_default(),
            )
        })
        .sum();
    f64::from(units) * size / f64::from(face.units_per_em())
}

/// `text`, cut with an ellipsis if it is wider than `most`.
pub fn fit(text: &str, size: f64, bold: bool, most: f64) -> String {
    if text.len() < 400 && width(text, size, bold) <= most {
        return text.to_owned();
    }
    let mut end = 0;
    let mut used = width("…", size, bold);
    for (place, letter) in text.char_indices() {
        used += width(letter.encode_utf8(&mut [0; 4]), size, bold);
        if used > most {
            break;
        }
        end = place + letter.len_utf8();
    }
    if end == text.len() { text.to_owned() } else { format!("{}…", text[..end].trim_end()) }
}
