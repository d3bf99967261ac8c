//! Numbers of cards and phones: groups of digits with something between.

use std::ops::Range;

/// Digits that stand together.
struct Group<'a> {
    place: Range<usize>,
    digits: &'a str,
    /// What stands between it and the group before.
    before: &'a str,
}

/// Digits of the longest number, a card's.
const MOST_DIGITS: usize = 19;

/// Groups that are held at a time.
const MOST_GROUPS: usize = 4096;

/// Calls `each` with rows of groups: all that have at most two separators between them.
fn rows(text: &str, mut each: impl FnMut(&[Group<'_>])) {
    let is_separator = |letter: char| {
        matches!(
            letter,
            ' ' | '-' | '.' | '/' | '(' | ')' | '\u{a0}' | '\u{2009}' | '\u{202f}' | '\u{2010}'..='\u{2015}'
        )
    };
    let bytes = text.as_bytes();
    let mut row: Vec<Group<'_>> = Vec::new();
    let mut at = 0;
    while let Some(offset) = bytes[at..].iter().position(u8::is_ascii_digit) {
        let start = at + offset;
        let length = bytes[start..].iter().position(|byte| !byte.is_ascii_digit());
        let end = length.map_or(bytes.len(), |length| start + length);
        let before = &text[at..start];
        let joins = before.len() <= 8 && before.chars().count() <= 2 && before.chars().all(is_separator);
        if !joins && !row.is_empty() {
            each(&row);
            row.clear();
        } else if row.len() >= MOST_GROUPS {
            each(&row);
            // A number may begin there; what is found twice is one.
            row.drain(..MOST_GROUPS - MOST_DIGITS);
        }
        row.push(Group { place: start..end, digits: &text[start..end], before });
        at = end;
    }
    if !row.is_empty() {
        each(&row);
    }
}

/// Tells where numbers of payment cards are.
pub(super) fn cards(text: &str, found: &mut impl FnMut(usize, usize)) {
    rows(text, |row| {
        let mut first = 0;
        while first < row.len() {
            match card(&row[first..]) {
                Some(groups) => {
                    found(row[first].place.start, row[first + groups - 1].place.end);
                    first += groups;
                }
                None => first += 1,
            }
        }
    });
}

/// How many groups the card's number has that a row begins with.
fn card(row: &[Group<'_>]) -> Option<usize> {
    // No card begins with another one.
    if !matches!(row[0].digits.as_bytes()[0], b'2'..=b'6') {
        return None;
    }
    let mut all = [0; MOST_DIGITS];
    let mut count = 0;
    for (position, group) in row.iter().enumerate() {
        let is_joined = position == 0 || matches!(group.before, " " | "-" | "\u{a0}");
        let place = all.get_mut(count..count + group.digits.len()).filter(|_| is_joined)?;
        place.copy_from_slice(group.digits.as_bytes());
        count += group.digits.len();
        if is_issued(&all[..count]) && luhn(&all[..count]) {
            return Some(position + 1);
        }
    }
    None
}

/// Whether cards of this length begin so.
fn is_issued(digits: &[u8]) -> bool {
    let first =
        |count: usize| digits[..count].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    match digits.len() {
        13 | 19 if first(1) == 4 => true,
        14 => matches!(first(2), 30 | 36 | 38 | 39),
        15 => matches!(first(2), 34 | 37),
        16 => {
            first(1) == 4
                || matches!(first(2), 30 | 35 | 36 | 38 | 39 | 50..=58 | 60..=69)
                || (2221..=2720).contains(&first(4))
        }
        17..=19 => matches!(first(2), 50 | 56..=58 | 60..=69),
        _ => false,
    }
}

/// The checksum of card numbers.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(position, byte)| match (position % 2, u32::from(byte - b'0')) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Tells where phone numbers are.
pub(super) fn phones(text: &str, found: &mut impl FnMut(usize, usize)) {
    rows(text, |row| {
        let mut first = 0;
        while first < row.len() {
            let start = row[first].place.start;
            let before = text[..start].chars().next_back();
            // A bracket or a sign is part of it.
            let start = start - usize::from(matches!(before, Some('+' | '(')));
            let plus = before == Some('+');
            match phone(&row[first..], plus, before) {
                Some(groups) => {
                    found(start, row[first + groups - 1].place.end);
                    first += groups;
                }
                None => first += 1,
            }
        }
    });
}

/// How many groups the phone number has that a row begins with.
fn phone(row: &[Group<'_>], plus: bool, before: Option<char>) -> Option<usize> {
    let first = row[0].digits;
    // Part of a word, or of a number with a decimal point.
    if before.is_some_and(|before| before.is_alphanumeric() || matches!(before, '_' | '.' | ',')) {
        return None;
    }
    // The most groups with as many digits.
    let within = |range: std::ops::RangeInclusive<usize>| {
        let mut sum = 0;
        let sums = row.iter().map(|group| {
            sum += group.digits.len();
            sum
        });
        sums.take_while(|sum| sum <= range.end()).enumerate().filter(|(_, sum)| range.contains(sum)).last()
    };
    let groups = |range| within(range).map(|(position, _)| position + 1);
    if plus {
        return groups(8..=15).filter(|_| !first.starts_with('0'));
    }
    if let Some(after) = first.strip_prefix("00")
        && !after.starts_with('0')
    {
        return groups(10..=17).filter(|groups| *groups > 1 || first.len() > 11);
    }
    // 030 1234567, 06 12 34 56 78
    if first.starts_with('0') && (2..=6).contains(&first.len()) && !is_date(row) {
        return groups(9..=12).filter(|groups| *groups > 1);
    }
    // (212) 555-0123, 1-800-555-0123
    let row = if first == "1" { &row[1..] } else { row };
    let lengths = row.iter().take(3).map(|group| group.digits.len());
    let is_area = |group: &Group<'_>| group.digits.starts_with(|digit: char| ('2'..='9').contains(&digit));
    let fits = lengths.eq([3, 3, 4]) && is_area(&row[0]) && is_area(&row[1]);
    fits.then_some(if first == "1" { 4 } else { 3 })
}

/// 01.02.2026, 02/01/2026
fn is_date(row: &[Group<'_>]) -> bool {
    let [day, month, year, ..] = row else { return false };
    let at_most = |group: &Group<'_>, most| {
        group.digits.len() <= 2 && group.digits.parse::<u32>().is_ok_and(|n| n <= most)
    };
    at_most(day, 31) && at_most(month, 31) && year.digits.len() == 4 && day.digits.len() == 2
}
