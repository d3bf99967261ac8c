//! Unified diffs.

use std::fmt::Write;
use std::ops::Range;

use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

/// The unified diff of two texts, empty if they are the same.
pub fn unified(old: &str, new: &str, context: u32, name: &str) -> String {
    let input = InternedInput::new(old, new);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let changes: Vec<Hunk> = diff.hunks().collect();
    if changes.is_empty() {
        return String::new();
    }
    let line = |token| input.interner[token];
    let (before, after) = (&input.before, &input.after);
    let name = name.replace(['\n', '\r'], " ");
    let mut output = format!("--- a/{name}\n+++ b/{name}\n");
    // Changes whose context would meet go into one hunk.
    for group in changes.chunk_by(|one, next| next.before.start - one.before.end <= context.saturating_mul(2))
    {
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let lead = context.min(first.before.start);
        let trail = context.min(before.len() as u32 - last.before.end);
        let from = first.before.start - lead..last.before.end + trail;
        let to = first.after.start - lead..last.after.end + trail;
        let _ = writeln!(output, "@@ -{} +{} @@", range(&from), range(&to));
        let mut place = from.start;
        for change in group {
            for index in place..change.before.start {
                append(&mut output, ' ', line(before[index as usize]));
            }
            for index in change.before.clone() {
                append(&mut output, '-', line(before[index as usize]));
            }
            for index in change.after.clone() {
                append(&mut output, '+', line(after[index as usize]));
            }
            place = change.before.end;
        }
        for index in place..from.end {
            append(&mut output, ' ', line(before[index as usize]));
        }
    }
    output
}

/// `start,count` as diffs write it: from 1, the line before if the count is 0, no count of 1.
fn range(lines: &Range<u32>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

fn append(output: &mut String, sign: char, line: &str) {
    output.push(sign);
    output.push_str(line);
    if !line.ends_with('\n') {
        output.push_str("\n\\ No newline at end of file\n");
    }
}
