//! Reading a model's reply: the code in it, and an answer that stands in its prose.

/// What a reply asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Code to run, in order.
    pub blocks: Vec<String>,
    /// An answer in prose, to be taken when all blocks have run.
    pub answer: Option<Final>,
    /// Whether the last block has no end, as in a reply that was cut.
    pub is_open: bool,
    /// What stands outside of blocks.
    prose: String,
}

impl Reply {
    /// What a reader makes of it who cannot run code: the answer in it, or its prose.
    pub fn into_text(self) -> Option<String> {
        let text = match self.answer {
            Some(Final::Text(text)) => text,
            _ => self.prose.trim().to_owned(),
        };
        Some(text).filter(|text| !text.is_empty())
    }
}

/// `FINAL(…)` or `FINAL_VAR(…)` in prose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Final {
    /// The answer itself.
    Text(String),
    /// The name of the variable that holds it.
    Variable(String),
}

/// Languages of fenced blocks that are run.
const LANGUAGES: [&str; 5] = ["python", "repl", "py", "python3", "ipython"];

/// Reads a reply. Fences are those of CommonMark: three or more backticks at the start of a line,
/// closed by at least as many. Blocks in other languages are prose.
pub(crate) fn read(text: &str) -> Reply {
    let mut reply = Reply::default();
    let mut prose = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((fence, language)) = opening(line) else {
            prose.push_str(line);
            prose.push('\n');
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let mut code = String::new();
        let mut quotes = Quotes::default();
        let mut closed = false;
        for line in lines.by_ref() {
            // A fence within a string of the code is not its end.
            if closes(line, fence) && !quotes.is_in_text() {
                closed = true;
                break;
            }
            let own = line.len() - line.trim_start_matches([' ', '\t']).len();
            let line = &line[indent.min(own)..];
            quotes.line(line);
            code.push_str(line);
            code.push('\n');
        }
        if !LANGUAGES.contains(&language.to_ascii_lowercase().as_str()) {
            // Set off from what is read as prose.
            prose.push('\n');
            continue;
        }
        reply.is_open = !closed;
        if !code.trim().is_empty() {
            reply.blocks.push(code);
        }
    }
    reply.answer = find_final(&prose);
    reply.prose = prose;
    reply
}

/// The length of the fence and the first word after it.
fn opening(line: &str) -> Option<(usize, &str)> {
    let trimmed = line.trim_start();
    if line.len() - trimmed.len() > 3 {
        return None;
    }
    let fence = trimmed.bytes().take_while(|byte| *byte == b'`').count();
    if fence < 3 || trimmed[fence..].contains('`') {
        return None;
    }
    let info = trimmed[fence..].trim_start_matches(['{', '.']).trim_start();
    let end = info.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(info.len());
    Some((fence, &info[..end]))
}

fn closes(line: &str, fence: usize) -> bool {
    let trimmed = line.trim();
    trimmed.len() >= fence && trimmed.bytes().all(|byte| byte == b'`')
}

/// Which string Python code is in, line by line.
#[derive(Default)]
struct Quotes {
    open: Option<&'static [u8]>,
    /// The line break belongs to an escape.
    escaped: bool,
}

impl Quotes {
    fn line(&mut self, line: &str) {
        const QUOTES: [&[u8]; 4] = [b"\"\"\"", b"'''", b"\"", b"'"];
        let bytes = line.as_bytes();
        self.escaped = false;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.open {
                Some(quote) if rest.starts_with(quote) => {
                    self.open = None;
                    at += quote.len();
                }
                Some(_) if rest[0] == b'\\' => {
                    self.escaped = rest.len() == 1;
                    at += 2;
                }
                Some(_) => at += 1,
                None if rest[0] == b'#' => return,
                None => match QUOTES.into_iter().find(|quote| rest.starts_with(quote)) {
                    Some(quote) => {
                        self.open = Some(quote);
                        at += quote.len();
                    }
                    None => at += 1,
                },
            }
        }
        // A string of one line ends with it.
        if self.open.is_some_and(|quote| quote.len() == 1) && !self.escaped {
            self.open = None;
        }
    }

    fn is_in_text(&self) -> bool {
        self.open.is_some_and(|quote| quote.len() == 3)
    }
}

/// The last answer in prose that begins a line.
fn find_final(prose: &str) -> Option<Final> {
    const DECORATION: [char; 6] = [' ', '\t', '*', '`', '>', '#'];
    let mut start = prose.len();
    for line in prose.split_inclusive('\n').rev() {
        start -= line.len();
        let begins = line.trim_start_matches(DECORATION);
        let at = start + line.len() - begins.len();
        if let Some(inside) = begins.strip_prefix("FINAL_VAR(") {
            let name = inside.split(')').next().unwrap_or("").trim().trim_matches(['"', '\'', '`']).trim();
            if is_name(name) {
                return Some(Final::Variable(name.to_owned()));
            }
        } else if begins.starts_with("FINAL(") {
            let inside = &prose[at + "FINAL(".len()..];
            let text = unquoted(inside[..end_of(inside)].trim());
            // What has none is passed over, but not for ever.
            return (!text.is_empty()).then(|| Final::Text(text.to_owned()));
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c == '_' || c.is_alphanumeric())
}

/// Where the text in parentheses ends: at the one that closes them, else at the last one, else at the
/// end. Parentheses in prose need not be in pairs.
fn end_of(text: &str) -> usize {
    let quoted = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| text.starts_with(quote));
    if let Some(quote) = quoted {
        // A string that is the whole of it may hold any.
        for (at, _) in text[quote.len()..].match_indices(quote) {
            let end = 2 * quote.len() + at;
            if text[end..].trim_start_matches([' ', '\t']).starts_with(')') {
                return end;
            }
        }
    }
    let mut depth = 0usize;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        // What follows on the line belongs to the answer: the parenthesis closed something else.
        let last = line.trim_end_matches([' ', '\t', '*', '`', '.', '\r', '\n']).len();
        for (at, c) in line.char_indices() {
            match c {
                '(' => depth += 1,
                ')' if depth > 0 => depth -= 1,
                ')' if at + 1 >= last => return start + at,
                _ => {}
            }
        }
        start += line.len();
    }
    text.rfind(')').unwrap_or(text.len())
}

fn unquoted(text: &str) -> &str {
    for quote in ["\"\"\"", "'''", "\"", "'"] {
        if let Some(inside) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote))
            && !inside.contains(quote)
        {
            return inside;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(text: &str) -> Vec<String> {
        read(text).blocks
    }

    fn answer(text: &str) -> Option<Final> {
        read(text).answer
    }

    fn text(text: &str) -> Option<Final> {
        Some(Final::Text(text.to_owned()))
    }

    fn variable(name: &str) -> Option<Final> {
        Some(Final::Variable(name.to_owned()))
    }

    #[test]
    fn blocks_of_python_are_code_in_order() {
        let reply = "First\n```python\na = 1\n```\nthen\n```repl\nb = 2\n\nc = 3\n```\n```sh\nrm -rf /\n```\n```\nno\n```";
        assert_eq!(blocks(reply), ["a = 1\n", "b = 2\n\nc = 3\n"]);
        assert_eq!(blocks("```Python\nx\n```"), ["x\n"]);
        assert_eq!(blocks("````py title=\"a\"\n```\nx\n````"), ["```\nx\n"]);
        assert_eq!(blocks("``` python\n  x\n```"), ["  x\n"]);
        // In a list, everything is indented.
        assert_eq!(blocks("1. do\n   ```python\n   for x in y:\n       x\n   ```"), ["for x in y:\n    x\n"]);
        assert_eq!(blocks("no code, only `python` and ```python x``` in a line"), Vec::<String>::new());
        assert_eq!(blocks("```python\n\n```"), Vec::<String>::new());
    }

    #[test]
    fn a_fence_in_a_string_does_not_end_the_block() {
        let code = "text = \"\"\"\n```\ncode\n```\n\"\"\"\nprint(text)\n";
        assert_eq!(blocks(&format!("```python\n{code}```\nafter")), [code]);
        let code = "# it's \"\"\" fine\nx = 'a\\'\"\"\"'\n";
        assert_eq!(blocks(&format!("```python\n{code}```\nafter")), [code]);
    }

    #[test]
    fn a_block_without_end_is_told() {
        let reply = read("```python\nx = 1\ny = ");
        assert_eq!((reply.blocks, reply.is_open), (vec!["x = 1\ny = \n".to_owned()], true));
        assert!(!read("```python\nx\n```\n").is_open);
    }

    #[test]
    fn answers_stand_in_prose_at_the_start_of_a_line() {
        assert_eq!(answer("Done.\nFINAL(42)"), text("42"));
        assert_eq!(answer("FINAL(\"a (b) c\")\n"), text("a (b) c"));
        assert_eq!(answer("FINAL('it is :) fine')"), text("it is :) fine"));
        assert_eq!(answer("**FINAL(f(x) = (x + 1))**"), text("f(x) = (x + 1)"));
        assert_eq!(answer("FINAL(1) one\n2) two)\nAnd so on."), text("1) one\n2) two"));
        assert_eq!(answer("FINAL(first line\nsecond line)\nBye"), text("first line\nsecond line"));
        assert_eq!(answer("FINAL(never closed"), text("never closed"));
        assert_eq!(answer("FINAL_VAR(result)"), variable("result"));
        assert_eq!(answer("  `FINAL_VAR(\"result\")`"), variable("result"));
        assert_eq!(answer("FINAL(a)\nno, rather\nFINAL_VAR(b)"), variable("b"));
        assert_eq!(answer("FINAL(a)\nFINAL_VAR(no name)"), text("a"));
    }

    #[test]
    fn hostile_replies_are_read_in_linear_time() {
        let fences = format!("```python\n\"\"\"\n{}", "```\n".repeat(200_000));
        assert_eq!(blocks(&fences).len(), 1);
        let finals = format!("{}{}x", "FINAL(\n".repeat(100_000), ")".repeat(200_000));
        assert!(answer(&finals).is_some());
        let quotes = format!("FINAL(\"{}", "\" ".repeat(300_000));
        assert!(answer(&quotes).is_some());
    }

    #[test]
    fn what_a_reader_sees_is_the_answer_or_the_prose() {
        let text = |text: &str| read(text).into_text();
        assert_eq!(text("So it is.\nFINAL(42)").as_deref(), Some("42"));
        assert_eq!(text("I look.\n```python\nprint(1)\n```\n").as_deref(), Some("I look."));
        assert_eq!(text("```python\nprint(1)\n```\n"), None);
    }

    #[test]
    fn what_only_mentions_an_answer_is_none() {
        assert_eq!(answer("I will say FINAL(x) when I am done."), None);
        assert_eq!(answer("```python\nFINAL('in code')\n```"), None);
        assert_eq!(answer("FINAL_VAR(not a name)"), None);
        assert_eq!(answer("FINAL()"), None);
        assert_eq!(answer("FINALLY(x)"), None);
        let reply = read("```python\nx = 1\n```\nFINAL_VAR(x)");
        assert_eq!((reply.blocks.len(), reply.answer), (1, variable("x")));
    }

    proptest! {
        #[test]
        fn any_reply_is_read(text in "([`'\"()\\\\# \n\tfFé]|```python\n|FINAL\\(|FINAL_VAR\\(|\"\"\"){0,60}") {
            read(&text);
        }

        #[test]
        fn what_is_fenced_comes_back(code in "[a-z =\n(]{1,40}") {
            prop_assume!(!code.trim().is_empty());
            let code: String = code.lines().map(|line| format!("{line}\n")).collect();
            prop_assert_eq!(blocks(&format!("x\n```python\n{code}```\ny")), vec![code]);
        }
    }
}
