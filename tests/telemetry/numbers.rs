//! Metrics: what is counted, and how it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentkernel::llm::{Budget, Llm, LlmLimits, ModelRequest, Price, Prices, ResponseCache};
use agentkernel::{Constraint, Kernel, Tool, ToolGrants};
use agentkernel_tests::{Answering, builder, echo, limits};

fn answering() -> Answering {
    Answering::new(|request: &ModelRequest| Ok(format!("re: {}", request.messages[0].content)))
}

#[test]
fn turns_and_sessions_are_counted() {
    let kernel = builder().build().unwrap();
    assert_eq!(kernel.metrics().sessions, 0);
    let mut limits = limits();
    limits.timeout = Some(Duration::from_millis(300));
    let mut first = kernel.session().limits(limits).start().unwrap();
    let second = kernel.session().start().unwrap();
    first.run_blocking("1 + 1").unwrap();
    first.run_blocking("1 / 0").unwrap();
    first.run_blocking("import sys; sys.exit(3)").unwrap();
    let stopped = first.run_blocking("while True: pass").unwrap();
    let metrics = kernel.metrics();
    assert_eq!((metrics.sessions, metrics.sessions_started["base"]), (2, 2));
    for (ending, count) in
        [("completed", 1), ("raised", 1), ("exited", 1), ("timed-out", 1), ("cancelled", 0), ("trapped", 0)]
    {
        assert_eq!(metrics.turns[ending], count, "{ending}");
    }
    assert_eq!(metrics.turns_rolled_back, u64::from(stopped.rolled_back));
    assert_eq!(metrics.turn_times.count, 4);
    assert!(metrics.turn_times.sum >= Duration::from_millis(300));
    let at_most = |length| metrics.turn_times.at_most.iter().find(|(at, _)| *at == length).unwrap().1;
    assert!(at_most(Duration::from_millis(250)) <= 3 && at_most(Duration::from_secs(300)) == 4);
    // The second kernel on this machine finds what the first one compiled.
    let caches = (metrics.compilation_cache_hits, metrics.compilation_cache_misses);
    assert_eq!(caches.0 + caches.1, 1, "{caches:?}");
    drop((first, second));
    assert_eq!(kernel.metrics().sessions, 0);
    // A session that cannot start is none.
    assert!(kernel.session().workspace("/nowhere/at/all").start().is_err());
    assert_eq!(kernel.metrics().sessions_started["base"], 2);
}

#[test]
fn models_and_their_cache_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut prices = Prices::default();
    prices.set("house", Price { input: 1.0, output: 2.0 }).unwrap();
    let cache = ResponseCache::open(directory.path().join("answers.db")).unwrap();
    let llm = Llm::new("house", answering()).allow("free").prices(prices).cache(cache);
    let kernel = builder().llm(llm).build().unwrap();
    let mut limits = LlmLimits::none();
    limits.calls = Some(2);
    let mut session = kernel.session().budget(Budget::new(limits)).start().unwrap();
    let code = "
from agentkernel import ask_llm, BudgetExceeded
ask_llm('four')
ask_llm('four')
ask_llm('12345', model='free')
for model, error in [('house', BudgetExceeded), ('nobody', ValueError)]:
    try:
        ask_llm('another', model=model)
    except error:
        pass
";
    let outcome = session.run_blocking(code).unwrap();
    assert_eq!(outcome.ending.name(), "completed", "{:?}", outcome.ending);
    let metrics = kernel.metrics();
    let house = &metrics.models["house"];
    assert_eq!((house.calls["answered"], house.calls["cached"], house.calls["budget"]), (1, 1, 1));
    assert_eq!((house.input_tokens, house.output_tokens), (4, 8));
    assert!((house.cost - 20e-6).abs() < 1e-12, "{}", house.cost);
    assert_eq!(metrics.models["free"].output_tokens, 9);
    assert_eq!(metrics.models["other"].calls["denied"], 1);
    assert!(!metrics.models.contains_key("nobody"));
    assert_eq!((metrics.answer_cache_hits, metrics.answer_cache_misses), (1, 2));
    assert_eq!(metrics.model_times.count, 2);
    assert_eq!((metrics.denials["budget"], metrics.denials["model"]), (1, 1));
    // As the budget counts them.
    let usage = outcome.usage.llm.total();
    assert_eq!(usage.input_tokens, metrics.models.values().map(|model| model.input_tokens).sum::<u64>());
}

/// A kernel in which much is refused.
fn denied() -> Kernel {
    let mut grants = ToolGrants::default();
    let mut constraint = Constraint::default();
    constraint.pattern = Some("ok.*".into());
    grants.allow.insert("ping".into(), [("name".to_owned(), constraint)].into());
    let tool = Tool::functions("net", "ping: func(name: string) -> string;")
        .function("ping", |(name,): (String,)| name)
        .grants(grants);
    builder().tool(tool).tool(echo()).build().unwrap()
}

#[test]
fn denials_are_counted() {
    let kernel = denied();
    let mut session = kernel.session().start().unwrap();
    let code = "
import agentkernel
from tools import net
net.ping('ok')
for call in [lambda: net.ping('bad'), lambda: agentkernel.ask_llm('?'), lambda: agentkernel.state['x']]:
    try:
        call()
    except Exception as error:
        print(type(error).__name__)
";
    let outcome = session.run_blocking(code).unwrap();
    assert_eq!(outcome.stdout.iter().filter(|byte| **byte == b'\n').count(), 3);
    let metrics = kernel.metrics();
    assert_eq!((metrics.tool_calls["net"]["ok"], metrics.tool_calls["net"]["denied"]), (1, 1));
    assert_eq!((metrics.denials["tool"], metrics.denials["service"]), (1, 2), "{metrics:?}");
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let kernel = builder().llm(Llm::new("ho\"use\\\n", answering())).tool(echo()).build().unwrap();
    let mut session = kernel.session().start().unwrap();
    session.run_blocking("from agentkernel import ask_llm\nask_llm('a')").unwrap();
    let text = kernel.metrics().prometheus();
    let samples = check(&text);
    assert_eq!(samples["agentkernel_sessions"], 1.0);
    assert_eq!(samples["agentkernel_turns_total{ending=\"completed\"}"], 1.0);
    assert_eq!(samples["agentkernel_turn_duration_seconds_count"], 1.0);
    assert_eq!(samples["agentkernel_llm_tokens_total{model=\"ho\\\"use\\\\\\n\",type=\"input\"}"], 1.0);
    assert_eq!(samples["agentkernel_tool_calls_total{tool=\"echo\",outcome=\"ok\"}"], 0.0);
}

/// Checks a text by the rules of the format; gives its samples.
fn check(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut kinds = BTreeMap::<String, String>::new();
    let mut helped = BTreeSet::<String>::new();
    let mut samples = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            family = name.to_owned();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            // After the help, before the samples, once.
            assert!(name == family && kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0, "{line}");
        let bare = name.split('{').next().unwrap();
        assert!(bare.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{line}");
        if let Some((_, labels)) = name.split_once('{') {
            labels_of(labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}")));
        }
        match kinds[&family].as_str() {
            "histogram" => {
                let part = bare.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line}"));
                assert!(["_bucket", "_sum", "_count"].contains(&part), "{line}");
            }
            kind => assert!(bare == family && (kind == "counter") == bare.ends_with("_total"), "{line}"),
        }
        assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    for (name, _) in kinds.iter().filter(|(_, kind)| *kind == "histogram") {
        let buckets = samples.iter().filter(|(sample, _)| sample.starts_with(&format!("{name}_bucket{{")));
        let mut buckets: Vec<(f64, f64)> = buckets
            .map(|(sample, count)| {
                let length = sample.split('"').nth(1).unwrap();
                (length.parse().unwrap(), *count)
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{name}: {buckets:?}");
        let (length, all) = buckets.last().unwrap();
        assert!(length.is_infinite() && *all == samples[&format!("{name}_count")], "{name}");
    }
    samples
}

/// Reads `name="value",…` to its end.
fn labels_of(mut text: &str) {
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{text}");
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next() {
                Some((_, '\\')) => assert!(matches!(letters.next(), Some((_, '\\' | '"' | 'n'))), "{text}"),
                Some((at, '"')) => break at,
                Some((_, letter)) => assert_ne!(letter, '\n'),
                None => panic!("an open label: {text}"),
            }
        };
        text = &rest[end + 1..];
        text = text.strip_prefix(',').unwrap_or(text);
    }
}
