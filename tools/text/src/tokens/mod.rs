//! An estimate of tokens. The text is cut as the tokeniser `o200k_base` cuts it; a piece that is in its
//! vocabulary is one token, as most are. Others are taken to be the longest parts that are in it, where
//! the tokeniser merges pairs in the order of their frequency: that needs the order, which is larger
//! than this whole tool. The vocabulary is a filter of one byte for each token, which takes one of 256
//! other strings for a token too. `builder-notes/tokens.md` tells how it is made, and the error.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex::Regex;

/// A binary fuse filter (arXiv 2201.01174) of the hashes of all tokens.
const FINGERPRINTS: &[u8] = include_bytes!("o200k.filter");
const SEED: u64 = include!("o200k.seed");
const SEGMENT: u32 = 4096;
/// Bytes of the longest token that is looked for; few are longer, and they are runs of one sign.
const LONGEST: usize = 64;
/// Pieces whose tokens are kept, as most of a text are the same few words.
const KEPT: usize = 50_000;
/// Bytes of a piece that is kept.
const KEPT_BYTES: usize = 32;

/// How a text is cut, but for white space before a word, whose last character goes with the word.
const PIECES: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
);

/// How many tokens `text` has, by estimate.
pub fn estimate(text: &str) -> u32 {
    let mut kept: HashMap<&str, u32> = HashMap::new();
    let mut sum = 0u64;
    for piece in pieces(text) {
        let tokens = match kept.get(piece) {
            Some(tokens) => *tokens,
            None => {
                let tokens = tokens(piece.as_bytes());
                if piece.len() <= KEPT_BYTES && kept.len() < KEPT {
                    kept.insert(piece, tokens);
                }
                tokens
            }
        };
        sum += u64::from(tokens);
    }
    u32::try_from(sum).unwrap_or(u32::MAX)
}

/// The pieces that no token goes across.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    static REGEX: OnceLock<Regex> = OnceLock::new();
    let regex = REGEX.get_or_init(|| Regex::new(PIECES).expect("the pattern is right"));
    let mut start = 0;
    std::iter::from_fn(move || {
        let found = regex.find_at(text, start)?;
        let mut end = found.end();
        let piece = found.as_str();
        // The look-ahead `\s+(?!\S)` of the original.
        if end < text.len()
            && piece.ends_with(|letter: char| letter.is_whitespace() && !matches!(letter, '\r' | '\n'))
        {
            if let Some((last, _)) = piece.char_indices().next_back().filter(|(last, _)| *last > 0) {
                end = found.start() + last;
            }
        }
        start = end;
        Some(&text[found.start()..end])
    })
}

fn tokens(piece: &[u8]) -> u32 {
    let mut count = 0;
    let mut rest = piece;
    while !rest.is_empty() {
        let mut hash = START;
        let mut longest = 1;
        for (index, byte) in rest.iter().take(LONGEST).enumerate() {
            hash = next(hash, *byte);
            if contains(hash) {
                longest = index + 1;
            }
        }
        rest = &rest[longest..];
        count += 1;
    }
    count
}

/// FNV-1a, which gives the hash of each prefix on the way.
const START: u64 = 0xcbf2_9ce4_8422_2325;

fn next(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

/// Whether a string of this hash is a token.
fn contains(key: u64) -> bool {
    let mut hash = key.wrapping_add(SEED);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^= hash >> 33;
    // Three places, in segments that follow each other.
    let starts = FINGERPRINTS.len() as u64 - 2 * u64::from(SEGMENT);
    let first = ((u128::from(hash) * u128::from(starts)) >> 64) as u32;
    let second = (first + SEGMENT) ^ ((hash >> 18) as u32 & (SEGMENT - 1));
    let third = (first + 2 * SEGMENT) ^ (hash as u32 & (SEGMENT - 1));
    let fingerprint = [first, second, third]
        .iter()
        .fold(0, |sum, place| sum ^ FINGERPRINTS.get(*place as usize).copied().unwrap_or_default());
    fingerprint == (hash ^ (hash >> 32)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_as_the_tokeniser_does() {
        let found: Vec<&str> = pieces("Hello, fooBar(x1)\n\n  don't  12345 日本").collect();
        assert_eq!(
            found,
            ["Hello", ",", " foo", "Bar", "(x", "1", ")\n\n", " ", " don't", " ", " ", "123", "45", " 日本"]
        );
        assert_eq!(pieces("  \n  ").collect::<Vec<_>>(), ["  \n", "  "]);
    }

    #[test]
    fn estimates_are_near() {
        assert_eq!(estimate(""), 0);
        assert_eq!(estimate("The quick brown fox jumps over the lazy dog."), 10);
        assert_eq!(estimate(&" the".repeat(1000)), 1000);
    }
}
