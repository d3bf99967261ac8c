//! Where something is that is hidden.

use super::{Hidden, Kind, NAMES, Privacy, email, iban, numbers, secret};

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub start: usize,
    pub end: usize,
    pub kind: Kind,
}

impl Privacy {
    /// What is found, in order. What overlaps is one, of the kind of the longest.
    pub(super) fn find(&self, text: &str) -> Vec<Found> {
        let mut found = Vec::new();
        for hidden in &self.0.finds {
            let kind = *hidden as Kind;
            let mut add = |start, end| found.push(Found { start, end, kind });
            match hidden {
                Hidden::Email => email::find(text, &mut add),
                Hidden::Phone => numbers::phones(text, &mut add),
                Hidden::Card => numbers::cards(text, &mut add),
                Hidden::Iban => iban::find(text, &mut add),
                Hidden::Key => secret::find(text, &mut add),
            }
        }
        for (position, (_, regex)) in self.0.patterns.iter().enumerate() {
            let kind = NAMES.len() + position;
            let mut add = |start, end| {
                if start < end {
                    found.push(Found { start, end, kind });
                }
            };
            match regex.capture_names().any(|name| name == Some("hide")) {
                false => regex.find_iter(text).for_each(|part| add(part.start(), part.end())),
                true => regex
                    .captures_iter(text)
                    .filter_map(|captures| captures.name("hide"))
                    .for_each(|part| add(part.start(), part.end())),
            }
        }
        merge(found)
    }
}

fn merge(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|found| (found.start, std::cmp::Reverse(found.end)));
    let mut merged: Vec<Found> = Vec::with_capacity(found.len());
    let mut longest = 0;
    for next in found {
        let length = next.end - next.start;
        match merged.last_mut() {
            Some(last) if next.start < last.end => {
                if length > longest {
                    (longest, last.kind) = (length, next.kind);
                }
                last.end = last.end.max(next.end);
            }
            _ => {
                longest = length;
                merged.push(next);
            }
        }
    }
    merged
}
