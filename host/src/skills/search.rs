//! Finding skills by what they do.

use super::Skill;
use super::directory::Directory;
use crate::Result;

/// Words of a question.
const MAX_WORDS: usize = 32;

/// Skills that have any of the words, those that have most in the best places first.
pub(super) fn search(directory: &Directory, words: &str) -> Result<Vec<Skill>> {
    let words = words.to_lowercase();
    let words: Vec<&str> =
        words.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let words = &words[..words.len().min(MAX_WORDS)];
    let mut found: Vec<(u32, Skill)> = directory
        .all()?
        .filter_map(|(skill, code)| {
            let texts = [
                (8, skill.name.to_lowercase()),
                (4, skill.description.to_lowercase()),
                (1, code.to_lowercase()),
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
