//! Applying unified diffs, also those that were written by hand or by a model: line numbers may be
//! wrong or missing, blank lines may have lost their space.

struct Hunk<'a> {
    /// Its header as it stands in the diff.
    header: &'a str,
    /// The line of the diff it starts at, from 1.
    line: usize,
    /// The line of the old text it says it starts at, from 0.
    start: Option<usize>,
    /// How many lines of the old text it says it has.
    count: Option<usize>,
    lines: Vec<Line<'a>>,
}

struct Line<'a> {
    sign: u8,
    /// Without its end.
    text: &'a str,
    /// Whether no newline follows.
    last: bool,
}

/// `text` changed as `diff` says.
///
/// # Errors
///
/// Which hunk does not fit, or what is wrong with the diff.
pub fn apply(text: &str, diff: &str) -> Result<String, String> {
    let hunks = parse(diff)?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut output = String::with_capacity(text.len() + diff.len());
    let mut place = 0;
    // How far the text is from what the line numbers say, as the last hunk showed.
    let mut shift = 0isize;
    for (index, hunk) in hunks.iter().enumerate() {
        let old: Vec<&str> =
            hunk.lines.iter().filter(|line| line.sign != b'+').map(|line| line.text).collect();
        let expected = hunk.start.map(|start| start.saturating_add_signed(shift));
        let found = find(&lines, &old, place, expected)
            .map_err(|found| refuse(index + 1, hunk, &lines, &old, place, expected, found))?;
        if let Some(start) = hunk.start {
            shift = found as isize - start as isize;
        }
        // A hunk without `\r` that stands for lines with it means to add such lines.
        let crlf =
            lines[found..].iter().zip(&old).any(|(line, old)| line.ends_with("\r\n") && !old.ends_with('\r'));
        for line in &lines[place..found] {
            append(&mut output, line, false);
        }
        place = found;
        for line in &hunk.lines {
            if line.sign == b'+' {
                append(&mut output, line.text, true);
                if !line.last {
                    output.push_str(if crlf { "\r\n" } else { "\n" });
                }
            } else {
                if line.sign == b' ' {
                    append(&mut output, lines[place], false);
                }
                place += 1;
            }
        }
    }
    for line in &lines[place..] {
        append(&mut output, line, false);
    }
    Ok(output)
}

/// Appends a line, and the newline that the line before had not, being the last one.
fn append(output: &mut String, line: &str, added: bool) {
    if !output.is_empty() && !output.ends_with('\n') && (added || !line.is_empty()) {
        output.push('\n');
    }
    output.push_str(line);
}

fn parse(diff: &str) -> Result<Vec<Hunk<'_>>, String> {
    let mut hunks: Vec<Hunk<'_>> = Vec::new();
    let mut files = 0;
    let mut lines = diff.split('\n').enumerate().peekable();
    let mut within = false;
    while let Some((index, line)) = lines.next() {
        let next_is_new_file = lines.peek().is_some_and(|(_, next)| next.starts_with("+++ "));
        if line.starts_with("@@") {
            hunks.push(header(line.trim_end(), index + 1));
            within = true;
        } else if line.starts_with("diff ") || (line.starts_with("--- ") && next_is_new_file) {
            within = false;
            if line.starts_with("--- ") {
                files += 1;
                lines.next();
            }
            if files > 1 {
                return Err(format!(
                    "the diff is of several files (the second begins in line {}): give the part of one",
                    index + 1
                ));
            }
        } else if let (true, Some(hunk)) = (within, hunks.last_mut()) {
            body(hunk, line, index + 1)?;
        }
    }
    if hunks.is_empty() && !diff.trim().is_empty() {
        return Err("this is no unified diff: it has no hunk, no line that begins with `@@`".to_owned());
    }
    for hunk in &mut hunks {
        trim(hunk);
        if hunk.lines.iter().all(|line| line.sign == b' ') {
            return Err(format!("the hunk in line {} of the diff changes nothing", hunk.line));
        }
    }
    Ok(hunks)
}

/// `@@ -12,3 +12,4 @@ def f():`; what cannot be read is left out.
fn header(line: &str, number: usize) -> Hunk<'_> {
    let range = line.split_whitespace().nth(1).and_then(|word| word.strip_prefix('-')).unwrap_or_default();
    let (start, count) = range.split_once(',').unwrap_or((range, "1"));
    let start: Option<usize> = start.parse().ok();
    let count = start.and_then(|_| count.parse().ok());
    // Where nothing is removed, the number is that of the line before.
    let start = start.map(|start| if count == Some(0) { start } else { start.saturating_sub(1) });
    Hunk { header: line, line: number, start, count, lines: Vec::new() }
}

fn body<'a>(hunk: &mut Hunk<'a>, line: &'a str, number: usize) -> Result<(), String> {
    match line.as_bytes().first() {
        Some(sign @ (b' ' | b'+' | b'-')) => {
            hunk.lines.push(Line { sign: *sign, text: &line[1..], last: false });
        }
        None | Some(b'\r') => hunk.lines.push(Line { sign: b' ', text: line, last: false }),
        Some(b'\\') => {
            if let Some(before) = hunk.lines.last_mut() {
                before.last = true;
            }
        }
        _ => {
            return Err(format!(
                "line {number} of the diff begins with none of ` `, `+`, `-`, `@@`: `{}`",
                shown(line)
            ));
        }
    }
    Ok(())
}

/// Takes away the empty lines at the end of a hunk that are none of its lines.
fn trim(hunk: &mut Hunk<'_>) {
    let mut old = hunk.lines.iter().filter(|line| line.sign != b'+').count();
    while old > hunk.count.unwrap_or(0)
        && hunk.lines.last().is_some_and(|line| line.sign == b' ' && line.text.is_empty())
    {
        hunk.lines.pop();
        old -= 1;
    }
}

fn same(line: &str, old: &str) -> bool {
    line.trim_end_matches(['\n', '\r']) == old.trim_end_matches('\r')
}

/// Where all of `old` stands in `lines`, not before `from`: at `expected`, or nearest to it; at the one
/// place there is if nothing is expected.
///
/// # Errors
///
/// How many places there are: none or, with nothing expected, several.
fn find(lines: &[&str], old: &[&str], from: usize, expected: Option<usize>) -> Result<usize, usize> {
    let fits = |place: usize| {
        place >= from
            && lines
                .get(place..place + old.len())
                .is_some_and(|there| there.iter().zip(old).all(|(line, old)| same(line, old)))
    };
    let Some(expected) = expected.map(|expected| expected.clamp(from, lines.len())) else {
        let mut places = (from..=lines.len()).filter(|place| fits(*place));
        return match (places.next(), places.next()) {
            (Some(_), Some(_)) => Err(2 + places.count()),
            (found, _) => found.ok_or(0),
        };
    };
    (0..=lines.len())
        .flat_map(|distance| [expected.checked_sub(distance), Some(expected + distance)])
        .flatten()
        .find(|place| fits(*place))
        .ok_or(0)
}

fn refuse(
    number: usize,
    hunk: &Hunk<'_>,
    lines: &[&str],
    old: &[&str],
    from: usize,
    expected: Option<usize>,
    found: usize,
) -> String {
    let which = format!("hunk {number} (`{}`, line {} of the diff)", shown(hunk.header), hunk.line);
    if old.is_empty() {
        return format!(
            "{which} has neither line numbers nor unchanged lines: there is no telling where it goes"
        );
    }
    if found > 1 {
        return format!("{which} fits at {found} places: give it line numbers or more unchanged lines");
    }
    // The place where most of its first lines stand, or the one it names.
    let agreeing =
        |place: usize| lines[place..].iter().zip(old).take_while(|(line, old)| same(line, old)).count();
    let best = (from..lines.len())
        .filter(|place| same(lines[*place], old[0]))
        .take(10_000)
        .max_by_key(|place| (agreeing(*place), usize::MAX - place))
        .unwrap_or_else(|| expected.unwrap_or(from).clamp(from, lines.len()));
    let agree = agreeing(best);
    let there = lines.get(best + agree).map_or("the end of the text".to_owned(), |line| {
        format!("`{}`", shown(line.trim_end_matches(['\n', '\r'])))
    });
    let wanted = old.get(agree).copied().unwrap_or_default();
    format!(
        "{which} does not apply: it expects `{}` where line {} is {there}; nothing was changed",
        shown(wanted),
        best + agree + 1
    )
}

fn shown(line: &str) -> String {
    let mut letters = line.chars();
    let start: String = letters.by_ref().take(120).collect();
    if letters.next().is_some() { start + "…" } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::unified;

    #[test]
    fn what_was_told_apart_comes_together() {
        // Short lines of a small alphabet, so that much repeats; a fixed linear congruence.
        let mut state = 1u32;
        let mut random = move |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for _ in 0..3000 {
            let mut text = || {
                let end = random(3);
                let lines = random(12);
                let text: String =
                    (0..lines).map(|_| ["a\n", "b\n", "\n", "-- x\n", "c\r\n"][random(5) as usize]).collect();
                if end == 0 { text.trim_end_matches('\n').to_owned() } else { text }
            };
            let (old, new) = (text(), text());
            let diff = unified(&old, &new, random(4), "x");
            assert_eq!(apply(&old, &diff).as_deref(), Ok(&*new), "{old:?}\n{diff}");
        }
    }

    #[test]
    fn hunks_are_found_where_they_fit() {
        let text = "a\nb\nc\nd\ne\n";
        assert_eq!(apply(text, "@@\n-d\n+D\n").unwrap(), "a\nb\nc\nD\ne\n");
        assert_eq!(apply(text, "@@ -1,2 +1,2 @@\n d\n-e\n+E\n\n").unwrap(), "a\nb\nc\nd\nE\n");
        assert_eq!(apply("a\r\nb\r\n", "@@ -1 +1 @@\n-a\n+A\n").unwrap(), "A\r\nb\r\n");
        assert_eq!(apply("a", "@@ -1 +1,2 @@\n a\n+b\n").unwrap(), "a\nb\n");
        assert_eq!(apply(text, "").unwrap(), text);
    }

    #[test]
    fn refusals_say_which_hunk_and_why() {
        let text = "a\nb\nc\n";
        for (diff, part) in [
            ("@@ -1,2 +1,2 @@\n a\n-x\n+y\n", "expects `x` where line 2 is `b`"),
            ("@@ -3,2 +3,2 @@\n c\n-d\n+y\n", "where line 4 is the end of the text"),
            ("@@\n+y\n", "no telling"),
            ("no diff", "no unified diff"),
            ("@@ -1 +1 @@\n*a\n", "line 2 of the diff begins with none of"),
            ("--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n--- c\n+++ d\n@@ -1 +1 @@\n-a\n+b\n", "several files"),
        ] {
            let error = apply(text, diff).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(apply("a\na\n", "@@\n-a\n+b\n").unwrap_err().contains("2 places"));
    }
}
