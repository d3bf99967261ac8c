//! The conversation of one session with its model.

use std::collections::VecDeque;

use super::prompt;
use crate::llm::{Message, ModelRequest, Role};
use crate::trajectory::{PromptMessage, PromptRole};

/// Bytes from which on what was shown in early steps is left out.
pub(crate) const MOST: usize = 300_000;

/// Messages at the end that stay whole.
const RECENT: usize = 4;

/// Questions that were dropped and are still named, with their answers.
const REMEMBERED: usize = 30;

/// Characters of a question or an answer that is only named.
const NAMED: usize = 200;

pub(crate) struct History {
    system: String,
    messages: Vec<Message>,
    /// Bytes that the messages may have together.
    most: usize,
    /// How many of them a trajectory has.
    told: usize,
    /// How many of them, from the first, were shortened or never are.
    shortened: usize,
    /// The message that asks the question which is being answered.
    question: usize,
    title: String,
    /// Earlier questions, in short, by the places of their messages.
    earlier: Vec<(usize, String)>,
    /// What is left of those whose messages were dropped.
    remembered: Vec<String>,
    dropped: usize,
    /// What the next question begins with.
    notes: VecDeque<String>,
    /// How many of those were dropped.
    dropped_notes: usize,
}

impl History {
    pub fn new(system: String, most: usize) -> Self {
        History {
            system,
            messages: Vec::new(),
            most,
            told: 0,
            shortened: 0,
            question: 0,
            title: String::new(),
            earlier: Vec::new(),
            remembered: Vec::new(),
            dropped: 0,
            notes: VecDeque::new(),
            dropped_notes: 0,
        }
    }

    /// Asks a question, called `title` when it is long past. It stays whole until it is answered.
    pub fn asks(&mut self, title: &str, question: &str) {
        if self.messages.last().is_some_and(|message| message.role == Role::User) {
            self.answered("(no answer)", "");
        }
        let mut content = match std::mem::take(&mut self.dropped_notes) {
            0 => String::new(),
            dropped => format!("[{} earlier notes are left out.]\n\n", prompt::grouped(dropped as u64)),
        };
        for note in self.notes.drain(..) {
            content += &note;
            content += "\n\n";
        }
        content += question;
        self.title = prompt::line(title, NAMED);
        self.question = self.messages.len();
        self.shorten();
        // What stands before it is shortened once there are newer messages.
        if self.question == 0 {
            self.shortened = 1;
        }
        self.messages.push(Message { role: Role::User, content });
    }

    /// A reply that does not answer yet, and what goes back.
    pub fn said(&mut self, reply: String, back: String) {
        self.push(Role::Assistant, reply);
        self.push(Role::User, back);
        self.shorten();
    }

    /// The reply to the question; `answer` is what it came to.
    pub fn answered(&mut self, reply: &str, answer: &str) {
        let short = format!("{} -> {}", self.title, prompt::line(answer, NAMED));
        self.earlier.push((self.question, short));
        self.push(Role::Assistant, reply.to_owned());
    }

    /// Says something before the next question. Of what is more than a quarter of all messages may be the oldest is
    /// dropped.
    pub fn note(&mut self, note: String) {
        self.notes.push_back(note);
        let mut bytes: usize = self.notes.iter().map(String::len).sum();
        while bytes > self.most / 4 && self.notes.len() > 1 {
            bytes -= self.notes.pop_front().map_or(0, |dropped| dropped.len());
            self.dropped_notes += 1;
        }
    }

    fn push(&mut self, role: Role, content: String) {
        // Providers take no empty message.
        let content = if content.trim().is_empty() { "(nothing)".to_owned() } else { content };
        self.messages.push(Message { role, content });
    }

    /// Leaves out the middle of what was shown long ago: variables have it still. Drops the oldest where
    /// that is not enough.
    fn shorten(&mut self) {
        let mut bytes: usize = self.messages.iter().map(|message| message.content.len()).sum();
        let last = self.messages.len().saturating_sub(RECENT);
        while self.shortened < last && bytes > self.most {
            let place = self.shortened;
            self.shortened += 1;
            if place == self.question {
                continue;
            }
            let message = &mut self.messages[place];
            let before = message.content.len();
            message.content = prompt::cut(&message.content, 1000).0;
            bytes -= before.saturating_sub(message.content.len());
        }
        if bytes > self.most {
            self.drop_oldest(bytes);
        }
    }

    /// Drops messages two by two, so that they still go back and forth, until a quarter is free. The question
    /// stays, and so do the newest.
    fn drop_oldest(&mut self, mut bytes: usize) {
        let mut count = 0;
        // The question that is being answered is passed over.
        let first = if self.question == 0 { 1 } else { 0 };
        let until = match first {
            1 => self.messages.len(),
            _ => self.question,
        };
        while bytes > self.most / 4 * 3
            && first + count + 2 <= until
            && first + count + 2 + RECENT <= self.messages.len()
        {
            for message in &self.messages[first + count..first + count + 2] {
                bytes -= message.content.len();
            }
            count += 2;
        }
        if count == 0 {
            return;
        }
        self.messages.drain(first..first + count);
        self.dropped += count;
        let before =
            |place: usize| if place > first { place.saturating_sub(count).max(first) } else { place };
        self.told = before(self.told);
        self.shortened = before(self.shortened);
        self.question = before(self.question);
        let mut kept = Vec::new();
        for (place, short) in self.earlier.drain(..) {
            match place < first + count {
                true => self.remembered.push(short),
                false => kept.push((place - count, short)),
            }
        }
        self.earlier = kept;
        let more = self.remembered.len().saturating_sub(REMEMBERED);
        self.remembered.drain(..more);
    }

    /// What stands in the place of messages that were dropped.
    fn summary(&self) -> Option<String> {
        if self.dropped == 0 {
            return None;
        }
        let mut summary = format!(
            "[{} earlier messages are left out. Variables and files that were made in them are still there.",
            prompt::grouped(self.dropped as u64)
        );
        for line in &self.remembered {
            summary += "\n- ";
            summary += line;
        }
        Some(summary + "]\n\n")
    }

    pub fn request(&self, model: &str) -> ModelRequest {
        let mut request = ModelRequest::new(model, "", 0);
        request.system = Some(self.system.clone());
        request.messages = self.messages.clone();
        if let (Some(summary), Some(first)) = (self.summary(), request.messages.first_mut()) {
            first.content.insert_str(0, &summary);
        }
        request
    }

    /// The last request, shortened to about `most` bytes: the question, and what came last.
    pub fn last_request(&self, model: &str, reason: &str, most: usize) -> ModelRequest {
        let mut request = self.request(model);
        request.messages.drain(..self.question);
        let last = prompt::last(reason);
        let first = request.messages[0].content.len();
        let mut left = most.saturating_sub(self.system.len() + first + last.len());
        let mut kept = Vec::new();
        for message in request.messages[1..].iter().rev() {
            let content = prompt::cut(&message.content, left / 4).0;
            if left < 400 || content.len() > left {
                break;
            }
            left -= content.len();
            kept.push(Message { role: message.role, content });
        }
        kept.reverse();
        request.messages.truncate(1);
        // A conversation goes back and forth.
        if kept.first().is_some_and(|message| message.role == Role::User) {
            kept.remove(0);
        }
        request.messages.extend(kept);
        if let Some(message) = request.messages.last_mut() {
            message.content += "\n\n";
            message.content += &last;
        }
        request
    }

    /// Messages that a trajectory does not have yet, the model's replies left out.
    pub fn news(&mut self) -> Vec<PromptMessage> {
        let system = (self.told == 0 && self.dropped == 0)
            .then(|| PromptMessage { role: PromptRole::System, content: self.system.clone() });
        let messages = self.messages[self.told..].iter().filter(|message| message.role == Role::User);
        let messages = messages
            .map(|message| PromptMessage { role: PromptRole::User, content: message.content.clone() });
        let news = system.into_iter().chain(messages).collect();
        self.told = self.messages.len();
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(system: &str) -> History {
        let mut history = History::new(system.into(), MOST);
        history.asks("question", "question");
        history
    }

    fn bytes(request: &ModelRequest) -> usize {
        request.messages.iter().map(|message| message.content.len()).sum()
    }

    fn goes_back_and_forth(request: &ModelRequest) -> bool {
        let roles = request.messages.iter().map(|message| message.role);
        roles.enumerate().all(|(place, role)| (role == Role::User) == (place % 2 == 0))
            && request.messages.len() % 2 == 1
    }

    #[test]
    fn what_was_shown_long_ago_is_shortened() {
        let mut history = asked("s");
        for step in 0..40 {
            history.said(format!("step {step}"), "x".repeat(40_000));
        }
        let request = history.request("m");
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        assert!(bytes <= MOST, "{bytes}");
        assert_eq!(request.messages.len(), 81);
        assert_eq!(request.messages[0].content, "question");
        assert_eq!(request.messages[80].content.len(), 40_000);
        // It is shortened once, and says so truly.
        assert!(
            request.messages[2].content.contains("39,000 characters left out"),
            "{}",
            request.messages[2].content
        );
    }

    #[test]
    fn the_last_request_fits_and_goes_back_and_forth() {
        let mut history = asked("system");
        for step in 0..9 {
            history.said(format!("step {step}"), "é".repeat(5000));
        }
        for most in [0, 1000, 5000, 50_000] {
            let request = history.last_request("m", "time", most);
            let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
            assert!(bytes <= most.max(800), "{bytes} of {most}");
            let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
            assert!(roles.iter().step_by(2).all(|role| *role == Role::User), "{roles:?}");
            assert!(roles.iter().skip(1).step_by(2).all(|role| *role == Role::Assistant));
            assert_eq!(roles.len() % 2, 1);
            assert!(request.messages.last().unwrap().content.contains("No more steps"));
        }
    }

    #[test]
    fn a_long_conversation_stays_within_its_bytes() {
        let mut history = History::new("s".into(), 20_000);
        for task in 0..200 {
            history.asks(&format!("task {task}"), &format!("task {task}"));
            for step in 0..3 {
                history.said(format!("step {step}"), "x".repeat(900));
                let request = history.request("m");
                assert!(bytes(&request) < 30_000, "{}", bytes(&request));
                assert!(goes_back_and_forth(&request), "{task} {step}");
                assert!(request.messages.iter().any(|message| message.content == format!("task {task}")
                    || message.content.ends_with(&format!("]\n\ntask {task}"))));
            }
            history.news();
            history.answered("FINAL(x)", &format!("answer\n{task}"));
        }
        history.asks("last", "last");
        let request = history.request("m");
        let first = &request.messages[0].content;
        assert!(
            first.contains("earlier messages are left out") && first.matches("\n- ").count() == REMEMBERED
        );
        assert!(first.contains("\n- task 1") && first.contains(" -> answer 1"), "{first}");
        assert_eq!(history.news().len(), 1);
        let request = history.last_request("m", "time", 20_000);
        assert!(request.messages[0].content.starts_with("last\n\n"), "{request:?}");
    }

    #[test]
    fn one_long_task_drops_its_own_steps() {
        let mut history = History::new("s".into(), 10_000);
        history.asks("the task", "the task");
        for step in 0..500 {
            history.said(format!("step {step}"), "y".repeat(200));
            history.news();
            let request = history.request("m");
            assert!(bytes(&request) < 12_000, "{}", bytes(&request));
            assert!(goes_back_and_forth(&request));
            assert!(request.messages[0].content.ends_with("the task"));
        }
        assert!(history.request("m").messages[0].content.starts_with('['));
    }

    #[test]
    fn notes_stay_within_a_quarter() {
        let mut history = History::new("s".into(), 4000);
        for note in 0..100 {
            history.note(format!("note {note} {}", "n".repeat(90)));
        }
        history.asks("go on", "go on");
        let content = history.request("m").messages[0].content.clone();
        assert!(content.len() < 1100 && content.contains("note 99 "), "{content}");
        let left = content.matches("note ").count();
        assert!(content.starts_with(&format!("[{} earlier notes are left out.]", 100 - left)), "{content}");
        // They are told once.
        history.answered("yes", "yes");
        history.note("x".repeat(5000));
        history.asks("again", "again");
        assert!(history.request("m").messages[2].content.starts_with('x'));
    }

    #[test]
    fn what_has_no_answer_is_followed_by_a_question_all_the_same() {
        let mut history = asked("s");
        history.note("It was stopped.".into());
        history.asks("again", "again");
        let request = history.request("m");
        assert!(goes_back_and_forth(&request), "{request:?}");
        assert_eq!(request.messages[2].content, "It was stopped.\n\nagain");
    }
}
