//! Finding functions of tools. Programs have `tools.search`; a session without grants asks it, so that both find
//! the same.

use agentkernel::{Ending, Kernel, Session};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refusal::{Refusal, blocking};
use crate::report::cut;

/// Bytes of a question.
const QUESTION_BYTES: usize = 4096;

/// Bytes of the documentation of a function that are passed on; `help()` has all.
const DOCS_BYTES: usize = 4096;

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Found {
    pub items: Vec<Item>,
}

/// A function, class or tool.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Item {
    /// Its name below `tools`: `text.search` is used after `from tools import text`.
    pub name: String,
    /// How it is called.
    pub signature: String,
    pub docs: String,
}

/// The session that is asked.
#[derive(Default)]
pub(crate) struct Librarian(tokio::sync::Mutex<Option<Session>>);

impl Librarian {
    pub async fn find(&self, kernel: &Kernel, words: &str, limit: usize) -> Result<Found, Refusal> {
        if words.len() > QUESTION_BYTES {
            return Err(Refusal::new(format!("a question of more than {QUESTION_BYTES} bytes"))
                .hint("ask by a few words"));
        }
        let mut kept = self.0.lock().await;
        let mut session = match kept.take() {
            Some(session) => session,
            None => {
                let kernel = kernel.clone();
                blocking(move || kernel.session().without_llm().without_state().without_skills().start())
                    .await??
            }
        };
        // A string of JSON is one of Python too.
        let words = serde_json::to_string(words).unwrap_or_default();
        let code = format!(
            "import tools\n[dict(name=i.name, signature=i.signature, docs=i.docs) for i in tools.search({words}, {limit})]"
        );
        let outcome = session.run(code).await?;
        let Ending::Completed(Some(value)) = outcome.ending else {
            return Err(Refusal::new(format!("the search failed: {}", outcome.ending.name())));
        };
        *kept = Some(session);
        let items: Vec<Item> = serde_json::from_value(value.json.unwrap_or_default())
            .map_err(|error| Refusal::new(format!("what was found cannot be read: {error}")))?;
        let shortened = |item: Item| Item { docs: cut(&item.docs, DOCS_BYTES), ..item };
        Ok(Found { items: items.into_iter().map(shortened).collect() })
    }
}

impl Found {
    /// The tools themselves.
    pub fn all(kernel: &Kernel, limit: usize) -> Self {
        let tools = kernel.tools().into_iter().take(limit);
        let item = |tool: agentkernel::ToolInfo| Item {
            signature: format!("from tools import {}", tool.name),
            name: tool.name,
            docs: cut(&tool.summary, DOCS_BYTES),
        };
        Found { items: tools.map(item).collect() }
    }

    pub fn text(&self) -> String {
        if self.items.is_empty() {
            return "[nothing was found; without words all tools are listed]".to_owned();
        }
        let item = |item: &Item| match item.docs.is_empty() {
            true => format!("{}  {}", item.name, item.signature),
            false => format!("{}  {}\n    {}", item.name, item.signature, item.docs.replace('\n', "\n    ")),
        };
        self.items.iter().map(item).collect::<Vec<_>>().join("\n")
    }
}
