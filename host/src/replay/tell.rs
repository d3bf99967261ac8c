//! What is said of a replay that goes another way than its recording.

use super::line::{Asked, FileAsk, Why};
use crate::llm::ModelRequest;
use crate::service;

/// Characters of a text that are shown where it differs.
const SHOWN: usize = 60;

pub fn place(at: &str) -> String {
    match at.split_once('/') {
        Some((run, "1")) => format!("session {run}"),
        Some((run, session)) => format!("session {run}, begun the {session}th time"),
        None => format!("session {at}"),
    }
}

pub fn asked(asked: &Asked) -> String {
    match asked {
        Asked::Turn { .. } => "another turn".into(),
        Asked::TurnEnd => "the end of the turn".into(),
        Asked::Call { function, arguments } | Asked::Start { function, arguments } => {
            match service::name(*function) {
                Some(name) => format!("`{name}`"),
                None => format!("function {function} of a tool (arguments {arguments})"),
            }
        }
        Asked::Sleep { ns } => format!("an operation of {ns} ns"),
        Asked::Take { operation } => format!("the result of operation {operation}"),
        Asked::Wait { operations, timeout } => match (operations.as_slice(), timeout) {
            ([], Some(ns)) => format!("a sleep of {ns} ns"),
            (operations, Some(ns)) => format!("a wait of {ns} ns for operations {operations:?}"),
            (operations, None) => format!("a wait for operations {operations:?}"),
        },
        Asked::Read { .. } => "standard input".into(),
        Asked::Poll { pollables } => format!("a wait for {pollables} pollables"),
        Asked::Ready => "whether a pollable is ready".into(),
        Asked::Block => "a wait for a pollable".into(),
        Asked::File(asked) => {
            let FileAsk { does, path, with, .. } = &**asked;
            let shown = |text: &str| text.chars().take(SHOWN).collect::<String>().escape_debug().to_string();
            let with = if with.is_empty() { String::new() } else { format!(" ({})", shown(with)) };
            format!("`{}` of `{}`{with}", shown(does), shown(path))
        }
        Asked::InTime => "another turn".into(),
        Asked::Room => "the last answer of a run".into(),
    }
}

/// Why a turn was stopped, if that is how it ended.
pub fn why(how: &str) -> Option<Why> {
    match how {
        "timed-out" => Some(Why::TimedOut),
        "cancelled" => Some(Why::Cancelled),
        _ => None,
    }
}

/// The first difference between two requests.
pub fn difference(now: &ModelRequest, recorded: &ModelRequest) -> String {
    if now.model != recorded.model {
        return format!("the model is `{}`, where the recording has `{}`", now.model, recorded.model);
    }
    let none = String::new();
    let texts = |request: &ModelRequest| {
        let mut texts =
            vec![("the system prompt".to_owned(), request.system.clone().unwrap_or(none.clone()))];
        for (position, message) in request.messages.iter().enumerate() {
            let name = match request.messages.len() {
                1 => "the prompt".to_owned(),
                _ => format!("message {}", position + 1),
            };
            texts.push((name, message.content.clone()));
        }
        texts
    };
    for ((name, now), (_, recorded)) in texts(now).iter().zip(&texts(recorded)) {
        if now != recorded {
            let same = now.chars().zip(recorded.chars()).take_while(|(one, other)| one == other).count();
            let from = same.saturating_sub(SHOWN / 3);
            let shown = |text: &str| -> String { text.chars().skip(from).take(SHOWN).collect() };
            return format!(
                "{name} differs from character {}: {:?}, where the recording has {:?}",
                same + 1,
                shown(now),
                shown(recorded)
            );
        }
    }
    let (one, other) = (now.messages.len(), recorded.messages.len());
    if one != other {
        return format!("there are {one} messages, where the recording has {other}");
    }
    let differs: Vec<&str> = [
        ("system", now.system != recorded.system),
        ("messages", now.messages != recorded.messages),
        ("max_tokens", now.max_tokens != recorded.max_tokens),
        ("temperature", now.temperature != recorded.temperature),
        ("stop", now.stop != recorded.stop),
        ("schema", now.schema != recorded.schema),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect();
    format!("`{}` differs from the recording", differs.join("`, `"))
}
