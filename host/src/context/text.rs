//! Text in bytes that claim to be UTF-8: where characters begin, how many there are.
//!
//! A sequence that is broken is one character, U+FFFD, as it is for Python's `errors="replace"`. So a
//! byte that does not continue a sequence always begins a character, and whether one that could
//! continue a sequence does is known from the three bytes before it. That is why a text can be counted
//! from anywhere.

use std::borrow::Cow;

/// How far back the beginning of a character can be.
pub const BACK: usize = 3;

fn continues(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// Bytes from `at` to the next beginning of a character, which may be there. The text must have the
/// bytes around: [`BACK`] before it and as many after it, as far as they exist.
pub fn to_boundary(text: &[u8], at: usize) -> usize {
    if text.get(at).is_none_or(|byte| !continues(*byte)) {
        return 0;
    }
    for back in 1..=BACK.min(at) {
        if !continues(text[at - back]) {
            let length = first_length(&text[at - back..text.len().min(at - back + 4)]);
            return length.saturating_sub(back);
        }
    }
    0
}

/// Bytes of the first character.
fn first_length(bytes: &[u8]) -> usize {
    bytes.utf8_chunks().next().map_or(0, |chunk| match chunk.valid().chars().next() {
        Some(first) => first.len_utf8(),
        None => chunk.invalid().len(),
    })
}

/// Whether nothing in the text is broken.
pub fn is_valid(bytes: &[u8]) -> bool {
    // The common case first: it takes a third of the time.
    bytes.is_ascii() || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Characters in a text in which nothing is broken.
pub fn count_valid(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !continues(**byte)).count()
}

/// The text with what is broken replaced.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match simdutf8::basic::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// Characters in the text.
pub fn count(bytes: &[u8]) -> usize {
    if bytes.is_ascii() {
        return bytes.len();
    }
    match simdutf8::basic::from_utf8(bytes) {
        Ok(text) => text.chars().count(),
        Err(_) => bytes
            .utf8_chunks()
            .map(|chunk| chunk.valid().chars().count() + usize::from(!chunk.invalid().is_empty()))
            .sum(),
    }
}

/// Where character number `index` begins; the end if there are fewer.
pub fn offset(bytes: &[u8], mut index: usize) -> usize {
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        let count = valid.chars().count();
        if index < count {
            return at + offset_in_valid(valid, index);
        }
        index -= count;
        at += valid.len();
        if !chunk.invalid().is_empty() {
            if index == 0 {
                return at;
            }
            index -= 1;
            at += chunk.invalid().len();
        }
    }
    at
}

fn offset_in_valid(text: &str, mut index: usize) -> usize {
    const STEP: usize = 256;
    let bytes = text.as_bytes();
    let mut at = 0;
    while bytes.len() - at > STEP {
        let starts = bytes[at..at + STEP].iter().filter(|byte| !continues(**byte)).count();
        if starts > index {
            break;
        }
        index -= starts;
        at += STEP;
    }
    let mut starts = bytes[at..].iter().enumerate().filter(|(_, byte)| !continues(**byte));
    starts.nth(index).map_or(text.len(), |(more, _)| at + more)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn broken() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            prop::sample::select(&b"a\n\x80\xbf\xc2\xc0\xe2\xed\xf0\xf4\xf5\xff\xa0\x90"[..])
                .prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_text_can_be_counted_from_anywhere(bytes in broken()) {
            let whole = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(count(&bytes), whole.chars().count());
            // Where characters begin, found one by one.
            let mut begins = vec![];
            let mut at = 0;
            while at < bytes.len() {
                begins.push(at);
                at += first_length(&bytes[at..]);
            }
            prop_assert_eq!(begins.len(), whole.chars().count());
            begins.push(bytes.len());
            for (index, begin) in begins.iter().enumerate() {
                prop_assert_eq!(offset(&bytes, index), *begin);
            }
            for at in 0..=bytes.len() {
                let next = *begins.iter().find(|begin| **begin >= at).unwrap();
                prop_assert_eq!(at + to_boundary(&bytes, at), next);
                // With no more of the text than is asked for.
                let (from, to) = (at.saturating_sub(BACK), bytes.len().min(at + BACK));
                prop_assert_eq!(at + to_boundary(&bytes[from..to], at - from), next);
            }
        }

        #[test]
        fn positions_in_long_texts_are_found(text in "[aé✓𝄞]{0,2000}", index in 0usize..2000) {
            let expected = text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
            prop_assert_eq!(offset(text.as_bytes(), index), expected);
        }
    }
}
