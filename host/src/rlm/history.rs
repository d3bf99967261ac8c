//! The conversation of one session with its model.

use super::prompt;
use super::trajectory::{PromptMessage, PromptRole};
use crate::llm::{Message, ModelRequest, Role};

/// Bytes from which on what was shown in early steps is left out.
const MOST: usize = 300_000;

/// Messages at the end that stay whole.
const RECENT: usize = 4;

pub(super) struct History {
    system: String,
    messages: Vec<Message>,
    /// How many of them a trajectory has.
    told: usize,
    /// How many of them, from the first, were shortened or never are.
    shortened: usize,
}

impl History {
    pub fn new(system: String, first: String) -> Self {
        let messages = vec![Message { role: Role::User, content: first }];
        // The question stays whole.
        History { system, messages, told: 0, shortened: 1 }
    }

    pub fn said(&mut self, reply: String, back: String) {
        // Providers take no empty message.
        let reply = if reply.trim().is_empty() { "(nothing)".to_owned() } else { reply };
        self.messages.push(Message { role: Role::Assistant, content: reply });
        self.messages.push(Message { role: Role::User, content: back });
        self.shorten();
    }

    /// Leaves out the middle of what was shown long ago: variables have it still.
    fn shorten(&mut self) {
        let mut bytes: usize = self.messages.iter().map(|message| message.content.len()).sum();
        let last = self.messages.len().saturating_sub(RECENT);
        while self.shortened < last && bytes > MOST {
            let message = &mut self.messages[self.shortened];
            self.shortened += 1;
            let before = message.content.len();
            message.content = prompt::cut(&message.content, 1000).0;
            bytes -= before.saturating_sub(message.content.len());
        }
    }

    pub fn request(&self, model: &str) -> ModelRequest {
        let mut request = ModelRequest::new(model, "", 0);
        request.system = Some(self.system.clone());
        request.messages = self.messages.clone();
        request
    }

    /// The last request, shortened to about `most` bytes: the question, and what came last.
    pub fn last_request(&self, model: &str, reason: &str, most: usize) -> ModelRequest {
        let mut request = self.request(model);
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
        let system = (self.told == 0)
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

    #[test]
    fn what_was_shown_long_ago_is_shortened() {
        let mut history = History::new("s".into(), "question".into());
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
        let mut history = History::new("system".into(), "question".into());
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
}
