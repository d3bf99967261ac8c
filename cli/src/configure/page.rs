//! The generated part of docs/configuration.md, and docs/agentkernel.schema.json.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::keys::{self, Key, NAME, tables};

const BEGIN: &str = "<!-- generated from the types: BLESS=1 cargo test -p agentkernel-cli configure -->\n";
const END: &str = "<!-- end of what is generated -->\n";

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// All keys, a table of the page for each of the file's.
fn page() -> String {
    let mut page = String::new();
    for table in tables() {
        if table.keys.is_empty() {
            continue;
        }
        let title = match table.path.is_empty() {
            true => "At the top".to_owned(),
            false => format!("`[{}]`", table.path.join(".")),
        };
        let _ = writeln!(page, "### {title}\n\n{}\n", linked(&table.docs));
        page.push_str("| key | type | default | flag, variable | |\n|---|---|---|---|---|\n");
        table.keys.iter().for_each(|key| page.push_str(&row(key)));
        page.push('\n');
    }
    page
}

fn row(key: &Key) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let asked: Vec<String> = key.flags.iter().chain(&key.variables).map(|text| format!("`{text}`")).collect();
    let name = match key.name() {
        NAME => "a name",
        name => &format!("`{name}`"),
    };
    let example = match (key.value(), &key.example) {
        (None, Some(example)) => format!(" As in `{}`.", keys::toml(example)),
        _ => String::new(),
    };
    let docs = if key.name() == NAME { example.trim().to_owned() } else { format!("{}{example}", key.docs) };
    format!(
        "| {name} | {} | {} | {} | {} |\n",
        key.kind,
        cell(&key.default),
        asked.join(", "),
        cell(&linked(&docs)),
    )
}

/// Pages that are named are linked.
fn linked(text: &str) -> String {
    let mut text = text.to_owned();
    for (at, _) in text.clone().match_indices("docs/").collect::<Vec<_>>().into_iter().rev() {
        let Some(length) = text[at..].find(".md") else { continue };
        let name = text[at + 5..at + length].to_owned();
        text.replace_range(at..at + length + 3, &format!("[{name}]({name}.md)"));
    }
    text
}

/// Compares a file with what it should be, or writes it where BLESS is set.
fn compare(file: &Path, expected: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "`{}` is not what the types of the configuration say ({differs:?}); renew it with `BLESS=1 cargo test -p agentkernel-cli configure` and read what changed",
        file.display()
    );
}

#[test]
fn the_page_is_as_the_types_are() {
    let file = docs("configuration.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page has a place for what is generated");
    let (_, after) = rest.split_once(END).expect("the place has an end");
    compare(&file, &format!("{before}{BEGIN}\n{}{END}{after}", page()));
}

#[test]
fn the_schema_is_as_the_types_are() {
    let mut text = serde_json::to_string_pretty(&keys::schema()).unwrap();
    text.push('\n');
    compare(&docs("agentkernel.schema.json"), &text);
}

#[test]
fn the_manual_part_names_no_key_that_is_gone() {
    let text = std::fs::read_to_string(docs("configuration.md")).unwrap();
    let (before, _) = text.split_once(BEGIN).unwrap();
    let examples = before.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    for example in examples {
        let read = toml::from_str::<crate::config::Config>(example);
        assert!(read.is_ok(), "{example}\n{}", read.err().unwrap());
    }
}
