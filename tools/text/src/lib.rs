//! The tool `text`: see `wit/text.wit`.

mod difference;
mod files;
mod glob;
mod patch;
mod pattern;
mod tokens;

use exports::agentkernel::text::text::{Found, Guest, Match};

wit_bindgen::generate!({ world: "tool", path: "wit" });

struct Tool;

export!(Tool);

impl Guest for Tool {
    fn search(
        pattern: String,
        text: String,
        ignore_case: Option<bool>,
        limit: Option<u32>,
    ) -> Result<Vec<Match>, String> {
        Ok(pattern::search(&pattern::compile(&pattern, ignore_case, false)?, &text, limit))
    }

    fn replace(
        pattern: String,
        replacement: String,
        text: String,
        ignore_case: Option<bool>,
        limit: Option<u32>,
    ) -> Result<String, String> {
        pattern::replace(&pattern::compile(&pattern, ignore_case, false)?, &replacement, text, limit)
    }

    fn split(
        pattern: String,
        text: String,
        ignore_case: Option<bool>,
        limit: Option<u32>,
    ) -> Result<Vec<String>, String> {
        Ok(pattern::split(&pattern::compile(&pattern, ignore_case, false)?, &text, limit))
    }

    fn search_files(
        pattern: String,
        path: Option<String>,
        glob: Option<String>,
        ignore_case: Option<bool>,
        limit: Option<u32>,
    ) -> Result<Found, String> {
        let regex = pattern::compile(&pattern, ignore_case, true)?;
        files::search(&regex, path.as_deref(), glob.as_deref(), limit)
    }

    fn diff(old: String, new: String, context: Option<u32>, name: Option<String>) -> String {
        difference::unified(&old, &new, context.unwrap_or(3), name.as_deref().unwrap_or("text"))
    }

    fn patch(text: String, diff: String) -> Result<String, String> {
        patch::apply(&text, &diff)
    }

    fn estimate_tokens(text: String) -> u32 {
        tokens::estimate(&text)
    }
}
