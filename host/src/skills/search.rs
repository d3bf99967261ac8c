//! Finding skills by what they do.

use super::Skill;
use super::directory::Directory;
use crate::{Error, ErrorKind, Result};

/// Words of a question, and its length.
const MAX_WORDS: usize = 32;
const MAX_BYTES: usize = 4096;

/// Of longer code only the beginning is looked at: no time limit ends a search.
const MAX_CODE: usize = 16 << 10;

/// Skills that have any of the words, those that have most in the best places first.
pub(super) fn search(directory: &Directory, words: &str) -> Result<Vec<Skill>> {
    if words.len() > MAX_BYTES {
        return Err(Error::new(ErrorKind::Skill, format!("a question of more than {MAX_BYTES} bytes"))
            .hint("ask by a few words"));
    }
    let words = words.to_lowercase();
    let split = words.split(|letter: char| !letter.is_alphanumeric());
    let words: Vec<&str> = split.filter(|word| !word.is_empty()).take(MAX_WORDS).collect();
    let mut found: Vec<(u32, Skill)> = directory
        .all()?
        .filter_map(|(skill, code)| {
            let texts = [
                (8, skill.name.to_lowercase()),
                (4, skill.description.to_lowercase()),
                (1, code[..code.floor_char_boundary(MAX_CODE)].to_lowercase()),
            ];
            let weight = |word: &&str| {
                texts.iter().filter(|(_, text)| text.contains(word)).map(|(weight, _)| weight).sum::<u32>()
            };
            let weight: u32 = words.iter().map(weight).sum();
            (weight > 0).then_some((weight, skill))
        })
        .collect();
    found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    Ok(found.into_iter().map(|(_, skill)| skill).collect())
}
