//! What models are told that write programs, whatever for.

use crate::context::Context;
use crate::kernel::Inner;

/// How the data in `context` is looked at.
pub(crate) fn context(context: &Context) -> String {
    let mut text = String::from(
        "The data is in the variable `context`. It may be far larger than what you can read: look at \
         parts of it, search it, and let sub-calls read the rest.\n",
    );
    text += &files(context);
    text += "`context` behaves like a str, lazily: `len(context)`, `context[a:b]`, `context.lines()`, \
             `context.chunks(size, overlap=0, by=\"line\")`, `context.search(regex)` (matches with `.file`, \
             `.line`, `.start`, `.line_text`), `context.count(regex)`, `context.findall(regex)`, \
             `context.files` (by name).\n";
    text
}

/// Functions that programs have without import.
pub(crate) fn functions(can_recurse: bool) -> String {
    let mut text = String::from(
        "\nFunctions, there without import:\n\
         - `llm_query(prompt)`: ask a language model that sees only the prompt; it can read some 100,000 \
         characters at a time.\n\
         - `llm_query_batched(prompts)`: the same for many prompts at once, far faster than one by one; \
         gives the replies in order.\n\
         - `ask_llm(prompt, schema=..., context=...)`: as llm_query, with a JSON schema or dataclass for the \
         reply (`.parsed`).\n",
    );
    if can_recurse {
        text += "- `rlm(question, context=...)` and `rlm_batch(questions, contexts=...)`: have a question \
                 answered about a part of the data by a session like this one. For parts that take several steps.\n";
    }
    text += "- `budget()`: what is left of calls, tokens and cost.\n\
             - `SHOW_VARS()`: your variables.\n";
    text
}

/// What programs find again in later sessions, where the kernel grants that.
pub(crate) fn lasting(kernel: &Inner) -> String {
    let mut text = String::new();
    if let Some(skills) = &kernel.skills {
        text += "\nSkills are programs that were kept: `from agentkernel import skills`; look with \
                 `skills.search(\"words\")` or `skills.list()` whether one is of use, then `from skills import NAME`.";
        if skills.is_writable() {
            text += " Keep what will be of use again: `skills.save(name, code, description)`.";
        }
        text += "\n";
    }
    #[cfg(feature = "state")]
    if kernel.state.is_some() {
        text += "\nWhat later sessions should know goes into `from agentkernel import state`, a dictionary of JSON \
                 values: `state.list()`, `state.get(key)`, `state[key] = value`.\n";
    }
    text
}

/// Files that are named to the model.
const MOST_FILES: usize = 20;

/// What a context consists of.
fn files(context: &Context) -> String {
    let count = context.files().count();
    let mut text = String::new();
    for (name, bytes) in context.files().take(MOST_FILES) {
        text += &format!("- {}: {} bytes\n", name.escape_debug(), grouped(bytes.end - bytes.start));
    }
    if count > MOST_FILES {
        text += &format!("- and {} more files\n", grouped((count - MOST_FILES) as u64));
    }
    if count > 1 {
        text += &format!("Together they are {} bytes, one after another.\n", grouped(context.size()));
    }
    text
}

pub(crate) const NO_CODE: &str = "Your reply had no ```python block and no answer. Write code that brings you \
    further, or set `answer[\"content\"]` and `answer[\"ready\"] = True` in a ```python block.";

pub(crate) const CUT: &str = "Your reply was cut: it reached the limit of its length, and its code was not run. \
    Write less at a time.";

pub(crate) const LOST: &str =
    "The session ended with that, and all variables are lost. A fresh one has begun.";

pub(crate) const TAKEN_BACK: &str = "What the block did in memory was taken back: all variables are as they were before it. \
    Files that it wrote are still there.";

/// Asked when nothing more may be done.
pub(crate) fn last(reason: &str) -> String {
    format!(
        "No more steps can be made: {reason}. Give the best answer you can from what you have seen so far, as \
         plain text, without code. Say what is uncertain."
    )
}

/// An integer with commas.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A text of somebody else on one line of at most `most` characters.
pub(crate) fn line(text: &str, most: usize) -> String {
    let mut line = String::new();
    // No more is looked at than can be shown.
    let (start, length) = crate::trajectory::cut(text, 4 * most);
    for word in start.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().map(|letter| if letter.is_control() { '?' } else { letter }));
    }
    let end = line.char_indices().nth(most).map(|(end, _)| end);
    if let Some(end) = end {
        line.truncate(end);
    }
    if end.is_some() || length > 4 * most as u64 {
        line.push('…');
    }
    line
}

/// Cuts the middle out of a text that is longer than `most` characters; gives how many were left out.
pub(crate) fn cut(text: &str, most: usize) -> (String, usize) {
    let length = text.chars().count();
    if length <= most {
        return (text.to_owned(), 0);
    }
    let head = most * 3 / 4;
    let tail = most - head;
    let left_out = length - most;
    let position = |characters: usize| text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    let (head, tail) = (&text[..position(head)], &text[position(length - tail)..]);
    let note = format!("\n[... {} characters left out ...]\n", grouped(left_out as u64));
    (format!("{head}{note}{tail}"), left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_loses_its_middle() {
        assert_eq!(cut("short", 5), ("short".to_owned(), 0));
        let (text, left_out) = cut(&"é".repeat(5000), 20);
        assert_eq!(left_out, 4980);
        assert_eq!(
            text,
            format!("{}\n[... 4,980 characters left out ...]\n{}", "é".repeat(15), "é".repeat(5))
        );
    }

    #[test]
    fn a_line_stays_one() {
        assert_eq!(line("a\n\n b\tc\u{1b}[31m", 99), "a b c?[31m");
        assert_eq!(line("äöü", 2), "äö…");
        assert_eq!(line("äö", 2), "äö");
        assert!(line(&" ".repeat(100_000), 2).chars().count() <= 1);
    }
}
