//! A provider that needs no model: answers by pattern, from a file or from the embedding program.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use regex::{Captures, Regex, RegexBuilder};
use serde::Deserialize;

use super::{
    Completing, Completion, ModelRequest, OnText, Provider, ProviderError, Role, StopReason, Tokens,
};
use crate::{Error, ErrorKind, Result};

/// How much of a prompt that nothing matches is shown.
const SHOWN_CHARS: usize = 200;

/// How large a pattern may become when it is compiled.
const PATTERN_BYTES: usize = 10 << 20;

/// Answers by pattern, for tests and offline trials.
///
/// The first rule that matches a request, and is not used up, answers it. Rules are looked at in the
/// order in which they were given, one request at a time and in the order of the calls to
/// [`complete`](Provider::complete), so a rule that holds for *n* requests answers exactly *n*.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use agentkernel::llm::{ModelRequest, Provider, Script};
///
/// let script = Script::new()
///     .reply(r"capital of (\w+)", "I do not know $1.")
///     .answer_with(|request| Some(format!("{} bytes", request.messages[0].content.len()).into()));
/// let request = ModelRequest::new("any", "What is the capital of Peru?", 100);
/// assert_eq!(script.complete(&request, None).await.unwrap().text, "I do not know Peru.");
/// let request = ModelRequest::new("any", "Hello", 100);
/// assert_eq!(script.complete(&request, None).await.unwrap().text, "5 bytes");
/// # }
/// ```
#[derive(Default)]
pub struct Script {
    rules: Vec<Rule>,
    /// How often each rule has answered.
    used: Mutex<Vec<u64>>,
    /// What it was read from, for messages.
    source: Option<String>,
}

/// What a rule of a [`Script`] answers. Made of a text, or of an error.
#[derive(Clone, Debug)]
pub struct Reply {
    result: Result<String, ProviderError>,
    delay: Duration,
    tokens: Partial,
    stop: StopReason,
}

type Closure = Box<dyn Fn(&ModelRequest) -> Option<Reply> + Send + Sync>;

struct Rule {
    prompt: Option<Regex>,
    system: Option<Regex>,
    model: Option<Regex>,
    times: Option<u64>,
    action: Action,
}

enum Action {
    Reply(Reply),
    Closure(Closure),
}

impl Reply {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Reply {
            result: Ok(text.into()),
            delay: Duration::ZERO,
            tokens: Partial::default(),
            stop: StopReason::End,
        }
    }

    /// An error.
    pub fn error(error: ProviderError) -> Self {
        Reply { result: Err(error), ..Reply::text("") }
    }

    /// How long the answer takes: no time.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// What is counted: a token for each four bytes that are begun.
    #[must_use]
    pub fn tokens(mut self, input: u64, output: u64) -> Self {
        self.tokens = Partial { input: Some(input), output: Some(output) };
        self
    }

    /// Why the answer ends: because it is complete.
    #[must_use]
    pub fn stop(mut self, stop: StopReason) -> Self {
        self.stop = stop;
        self
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Reply::text(text)
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Reply::text(text)
    }
}

impl Script {
    /// A script without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads rules from a TOML file, as `docs/llm-providers.md` describes it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not of that form; the message says where.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(ErrorKind::Model, format!("the script `{name}` cannot be read")).source(error)
        })?;
        Self::read(&text, name)
    }

    /// Reads rules from TOML.
    ///
    /// # Errors
    ///
    /// When the text is not of that form; the message says where.
    ///
    /// ```
    /// use agentkernel::llm::Script;
    ///
    /// let script = Script::parse(r#"
    ///     [[rule]]
    ///     match = "^ping"
    ///     reply = "pong"
    /// "#)?;
    /// # Ok::<(), agentkernel::Error>(())
    /// ```
    pub fn parse(toml: &str) -> Result<Self> {
        Self::read(toml, "script".into())
    }

    fn read(text: &str, source: String) -> Result<Self> {
        let wrong = |problem: String| {
            Error::new(ErrorKind::Model, format!("the script `{source}` is wrong: {problem}"))
                .hint("docs/llm-providers.md describes scripts")
        };
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().into()))?;
        if file.rules.is_empty() {
            return Err(wrong("it has no `[[rule]]`".into()));
        }
        let rules = file.rules.into_iter().enumerate().map(|(index, rule)| {
            rule.compile().map_err(|problem| wrong(format!("rule {}: {problem}", index + 1)))
        });
        Ok(Script { rules: rules.collect::<Result<_>>()?, used: Mutex::default(), source: Some(source) })
    }

    /// Adds a rule: where the last message of the user matches the regular expression `pattern`, the answer
    /// is `reply`, in whose text `$1` or `${name}` stands for what a group of the pattern matched.
    ///
    /// # Panics
    ///
    /// When the pattern is no regular expression.
    #[must_use]
    pub fn reply(self, pattern: &str, reply: impl Into<Reply>) -> Self {
        self.with(pattern, None, reply.into())
    }

    /// The same, for so many requests alone.
    ///
    /// # Panics
    ///
    /// When the pattern is no regular expression.
    #[must_use]
    pub fn reply_times(self, times: u64, pattern: &str, reply: impl Into<Reply>) -> Self {
        self.with(pattern, Some(times), reply.into())
    }

    /// Adds a rule: what `answer` returns is the answer; where that is `None`, the next rule is looked at. It
    /// is called with one request at a time.
    #[must_use]
    pub fn answer_with(
        mut self,
        answer: impl Fn(&ModelRequest) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let action = Action::Closure(Box::new(answer));
        self.rules.push(Rule { prompt: None, system: None, model: None, times: None, action });
        self
    }

    fn with(mut self, pattern: &str, times: Option<u64>, reply: Reply) -> Self {
        let prompt = match compile(pattern) {
            Ok(pattern) => Some(pattern),
            Err(problem) => panic!("a pattern of a script is wrong: {problem}"),
        };
        self.rules.push(Rule { prompt, system: None, model: None, times, action: Action::Reply(reply) });
        self
    }

    /// The reply to `request`, whose rule is thereby used once.
    fn choose(&self, request: &ModelRequest) -> Option<Reply> {
        let prompt = prompt(request);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.resize(self.rules.len(), 0);
        for (rule, used) in self.rules.iter().zip(used.iter_mut()) {
            let system = request.system.as_deref().unwrap_or("");
            let fits = rule.times.is_none_or(|times| *used < times)
                && rule.model.as_ref().is_none_or(|model| model.is_match(&request.model))
                && rule.system.as_ref().is_none_or(|pattern| pattern.is_match(system));
            if !fits {
                continue;
            }
            let captures = rule.prompt.as_ref().map(|pattern| pattern.captures(prompt));
            let reply = match (&rule.action, captures) {
                (_, Some(None)) => continue,
                (Action::Closure(answer), _) => match answer(request) {
                    Some(reply) => reply,
                    None => continue,
                },
                (Action::Reply(reply), captures) => {
                    let mut reply = reply.clone();
                    if let (Ok(text), Some(Some(captures))) = (&mut reply.result, &captures) {
                        *text = expand(text, captures);
                    }
                    reply
                }
            };
            *used += 1;
            return Some(reply);
        }
        None
    }

    fn unmatched(&self, request: &ModelRequest) -> ProviderError {
        let whole = prompt(request);
        let mut shown: String = whole.chars().take(SHOWN_CHARS).collect();
        if shown.len() < whole.len() {
            shown.push('…');
        }
        let source = match &self.source {
            Some(source) => format!("the script `{source}`"),
            None => "the script".into(),
        };
        ProviderError::new(format!(
            "no rule of {source} answers the model `{}` for the prompt {shown:?}; \
             add one that matches it, or that matches everything at the end",
            request.model.escape_debug()
        ))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Script");
        debug.field("source", &self.source).field("rules", &self.rules.len()).finish()
    }
}

impl Provider for Script {
    fn name(&self) -> &str {
        "script"
    }

    fn complete<'a>(&'a self, request: &'a ModelRequest, on_text: Option<OnText<'a>>) -> Completing<'a> {
        // Before the future is first polled, so that the order is that of the calls.
        let reply = self.choose(request);
        Box::pin(async move {
            let Some(reply) = reply else { return Err(self.unmatched(request)) };
            if !reply.delay.is_zero() {
                tokio::time::sleep(reply.delay).await;
            }
            let text = reply.result?;
            if let Some(on_text) = on_text {
                text.split_inclusive('\n').for_each(on_text);
            }
            let read = request.system.as_ref().map_or(0, String::len)
                + request.messages.iter().map(|message| message.content.len()).sum::<usize>();
            let tokens = Tokens {
                input: reply.tokens.input.unwrap_or(read.div_ceil(4) as u64),
                output: reply.tokens.output.unwrap_or(text.len().div_ceil(4) as u64),
            };
            Ok(Completion { text, model: request.model.clone(), tokens, stop: reply.stop })
        })
    }
}

/// The last message of the user.
fn prompt(request: &ModelRequest) -> &str {
    let last = request.messages.iter().rev().find(|message| message.role == Role::User);
    last.map_or("", |message| &message.content)
}

fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build().map_err(|error| error.to_string())
}

/// Puts what groups matched in the place of `$1`, `${1}` and `${name}`. What names no group of the pattern
/// stays as it is: replies are often code, where dollars mean something else. `$$` before a digit or a
/// brace is one dollar, without a group.
fn expand(text: &str, captures: &Captures<'_>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$')
            && after.starts_with(|next: char| next == '{' || next.is_ascii_digit())
        {
            expanded.push('$');
            expanded.push_str(&after[..1]);
            rest = &after[1..];
            continue;
        }
        let (name, length) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                (&rest[..digits], digits)
            }
        };
        match group(name, captures) {
            Some(value) => {
                expanded.push_str(value);
                rest = &rest[length..];
            }
            None => expanded.push('$'),
        }
    }
    expanded.push_str(rest);
    expanded
}

/// What a group matched; nothing if there is no such group, an empty text if it took no part.
fn group<'a>(name: &str, captures: &Captures<'a>) -> Option<&'a str> {
    let value = |found: Option<regex::Match<'a>>| found.map_or("", |found| found.as_str());
    match name.parse::<usize>() {
        Ok(number) => (number < captures.len()).then(|| value(captures.get(number))),
        // `Captures` does not tell a name that there is not from a group that took no part.
        Err(_) => captures.name(name).map(|found| found.as_str()),
    }
}

/// A script as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "rule")]
    rules: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    r#match: Option<String>,
    system: Option<String>,
    model: Option<String>,
    times: Option<u64>,
    reply: Option<String>,
    error: Option<WrittenError>,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    tokens: Partial,
    #[serde(default = "end")]
    stop: StopReason,
}

/// Tokens, each of which may be left to be counted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Partial {
    input: Option<u64>,
    output: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenError {
    message: String,
    status: Option<u16>,
    retry_after_ms: Option<u64>,
    #[serde(default)]
    refused: bool,
}

fn end() -> StopReason {
    StopReason::End
}

impl Written {
    fn compile(self) -> Result<Rule, String> {
        let pattern = |name: &str, pattern: Option<String>| match pattern {
            Some(pattern) => {
                compile(&pattern).map(Some).map_err(|problem| format!("`{name}` is no pattern: {problem}"))
            }
            None => Ok(None),
        };
        let result = match (self.reply, self.error) {
            (Some(text), None) => Ok(text),
            (None, Some(written)) => Err(written),
            (Some(_), Some(_)) => return Err("it has both `reply` and `error`".into()),
            (None, None) => return Err("it has neither `reply` nor `error`".into()),
        };
        let result = result.map_err(|written| {
            let mut error = ProviderError::new(written.message);
            error.status = written.status;
            error.retry = written.retry_after_ms.map(Duration::from_millis);
            error.refused = written.refused;
            if let Partial { input: Some(input), output: Some(output) } = self.tokens {
                error.charged = Some(Tokens { input, output });
            }
            error
        });
        let delay = Duration::from_millis(self.delay_ms);
        Ok(Rule {
            prompt: pattern("match", self.r#match)?,
            system: pattern("system", self.system)?,
            model: pattern("model", self.model)?,
            times: self.times,
            action: Action::Reply(Reply { result, delay, tokens: self.tokens, stop: self.stop }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_put_in_and_other_dollars_stay() {
        let pattern = Regex::new(r"(?<verb>\w+) (\w+)( never)?").unwrap();
        let captures = pattern.captures("count apples").unwrap();
        for (text, expected) in [
            ("$1 and $2, ${verb}s", "count and apples, counts"),
            ("[$0] [$3]", "[count apples] []"),
            ("cost: $5, $x, ${y}, $", "cost: $5, $x, ${y}, $"),
            ("$$1 $$2 $${verb}", "$1 $2 ${verb}"),
            ("$$ a$$b", "$$ a$$b"),
            ("${1}0 $10", "count0 $10"),
        ] {
            assert_eq!(expand(text, &captures), expected, "{text}");
        }
    }
}
