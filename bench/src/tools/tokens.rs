//! How many tokens a model has to read to know what tools there are: all schemas, or step by step.

use std::fmt;

use agentkernel::{Ending, Tool};
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::schema::Interface;
use crate::setup::Setup;
use crate::table::Table;

/// Prints a [`Shown`], given `TOOLS`, `TASKS` and `FUNCTIONS`.
const PROGRAM: &str = include_str!("tokens.py");

macro_rules! catalogue {
    ($($name:literal: $summary:literal),+ $(,)?) => {
        &[$(($name, $summary, include_str!(concat!("../../catalogue/", $name, ".wit")))),+]
    };
}

/// Names, summaries and WIT of tools as companies have them, of ten functions each.
const CATALOGUE: &[(&str, &str, &str)] = catalogue![
    "analytics": "Questions to the event store, alerts and experiments",
    "billing": "Invoices, payments and subscriptions",
    "calendar": "Appointments, invitations and rooms",
    "cluster": "Services that run in the cluster: deploy, scale, read logs",
    "crm": "Customers, deals and notes about them",
    "drive": "Files and folders in shared storage",
    "inventory": "Products, stock, orders and shipments",
    "mail": "Read, search and send mail",
    "people": "Employees, absences and vacancies",
    "tracker": "Tickets, comments and sprints",
];

/// What a model might search for, and the function that it needs.
const TASKS: &[(&str, &str)] = &[
    ("visitors that come back in later weeks", "analytics.retention"),
    ("give money back to a customer", "billing.refund_payment"),
    ("time when everybody is free", "calendar.find_free_slots"),
    ("roll back a bad release", "cluster.rollback"),
    ("look up a customer by name", "crm.find_customers"),
    ("share a folder with a colleague", "drive.share"),
    ("which products must be ordered again", "inventory.list_low_stock"),
    ("send an email", "mail.send_message"),
    ("who is on holiday next week", "people.list_absences"),
    ("file a bug", "tracker.create_ticket"),
];

/// Counts of tokens.
#[derive(Serialize)]
pub struct Tokens {
    tokeniser: &'static str,
    functions: usize,
    /// All of `tools/list`.
    schemas: usize,
    schemas_with_output: usize,
    /// `tools.describe()`.
    tools: usize,
    /// A line for each function and type.
    lines: usize,
    /// The mean of a search that shows five.
    search: f64,
    searches: usize,
    /// Searches that had the function that was needed among the five.
    searches_that_found: usize,
    /// The mean of describing one function, and the most.
    function: f64,
    function_most: usize,
}

/// What a session shows.
#[derive(Deserialize)]
struct Shown {
    tools: String,
    lines: String,
    searches: Vec<Search>,
    functions: Vec<String>,
}

#[derive(Deserialize)]
struct Search {
    shown: String,
    found: bool,
}

/// Asks a session with all tools, and counts.
pub fn measure(setup: &Setup) -> Result<Tokens> {
    let mut builder = setup.builder();
    let (mut inputs, mut outputs, mut functions) = (Vec::new(), Vec::new(), Vec::new());
    for (name, summary, wit) in CATALOGUE {
        let interface = Interface::parse(name, wit)?;
        inputs.extend(interface.listing(name, false)?);
        outputs.extend(interface.listing(name, true)?);
        let mut tool = Tool::functions(*name, *wit).summary(*summary);
        for function in interface.names() {
            functions.push(format!("{name}.{}", function.replace('-', "_")));
            // Only described, never called.
            tool = tool.function(function, |()| ());
        }
        builder = builder.tool(tool);
    }
    let names: Vec<&str> = CATALOGUE.iter().map(|(name, ..)| *name).collect();
    let program = format!(
        "TOOLS = {}\nTASKS = {}\nFUNCTIONS = {}\n{PROGRAM}",
        json!(names),
        json!(TASKS),
        json!(functions)
    );
    let outcome = builder.build()?.session().start()?.run_blocking(program)?;
    if !matches!(outcome.ending, Ending::Completed(_)) {
        bail!("the session ended in {:?}", outcome.ending);
    }
    let shown: Shown = serde_json::from_slice(&outcome.stdout)?;
    ensure!(shown.functions.len() == functions.len(), "not all functions were described");

    let count = |text: &str| tiktoken_rs::o200k_base_singleton().count_ordinary(text);
    let schemas = |list: Vec<serde_json::Value>| count(&json!({ "tools": list }).to_string());
    let mean = |counts: &[usize]| counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    let searches: Vec<usize> = shown.searches.iter().map(|search| count(&search.shown)).collect();
    let described: Vec<usize> = shown.functions.iter().map(|text| count(text)).collect();
    Ok(Tokens {
        tokeniser: "o200k_base",
        functions: functions.len(),
        schemas: schemas(inputs),
        schemas_with_output: schemas(outputs),
        tools: count(&shown.tools),
        lines: count(&shown.lines),
        search: mean(&searches),
        searches: searches.len(),
        searches_that_found: shown.searches.iter().filter(|search| search.found).count(),
        function: mean(&described),
        function_most: described.iter().copied().max().unwrap_or(0),
    })
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tokens { tokeniser, functions, schemas, tools, search, function, .. } = self;
        let row = |tokens: f64| [format!("{tokens:.0}"), format!("{:.1}x", *schemas as f64 / tokens)];
        let title =
            format!("Tokens ({tokeniser}) to know {functions} functions of {} tools", CATALOGUE.len());
        let both = *tools as f64 + search + function;
        Table::new(title, &["", "tokens", "fewer than all schemas"])
            .row("all schemas, as `tools/list` of MCP has them", row(*schemas as f64))
            .row("the same with output schemas", row(self.schemas_with_output as f64))
            .row("every function and type as one line", row(self.lines as f64))
            .row("`tools.describe()`", row(*tools as f64))
            .row(format!("`tools.search(…, limit=5)`, mean of {}", self.searches), row(*search))
            .row("`tools.describe(\"TOOL.FUNCTION\")`, mean of all", row(*function))
            .row("the same, the longest", row(self.function_most as f64))
            .row("describe, search, describe: all that one call needs", row(both))
            .remark(format!(
                "{} of {} searches had the function that was wanted among the five",
                self.searches_that_found, self.searches
            ))
            .fmt(f)
    }
}
