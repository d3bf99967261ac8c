//! Scripts: answers by pattern.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentkernel::ErrorKind;
use agentkernel::llm::{Provider, ProviderError, Reply, Script, StopReason, Tokens};

use crate::{ask, request, stream};

const FILE: &str = r#"
[[rule]]
match = "(?i)capital of (?<where>\\w+)"
times = 2
reply = "$1? ${where}. It costs $7."

[[rule]]
match = "capital"
model = "^small"
system = "brief"
reply = "Lima"
stop = "max-tokens"
tokens = { input = 5, output = 6 }

[[rule]]
match = "slow"
delay_ms = 50
reply = "one\ntwo\n"

[[rule]]
match = "down"
error = { status = 503, message = "Try later", retry_after_ms = 7 }
tokens = { input = 3, output = 0 }

[[rule]]
match = "bad"
error = { message = "No.", refused = true }
"#;

#[tokio::test]
async fn the_first_rule_that_fits_answers() {
    let script = Script::parse(FILE).unwrap();
    assert_eq!(script.name(), "script");
    for _ in 0..2 {
        let completion = ask(&script, &request("The Capital of Peru?")).await.unwrap();
        assert_eq!(completion.text, "Peru? Peru. It costs $7.");
        assert_eq!((completion.model.as_str(), completion.stop), ("some-model", StopReason::End));
        // A token for each four bytes: 20 and 24.
        assert_eq!(completion.tokens, Tokens { input: 5, output: 6 });
    }
    let mut next = request("The capital of Peru?");
    assert!(ask(&script, &next).await.is_err());
    next.model = "small".into();
    assert!(ask(&script, &next).await.is_err());
    next.system = Some("Be brief.".into());
    let completion = ask(&script, &next).await.unwrap();
    assert_eq!((completion.text.as_str(), completion.stop), ("Lima", StopReason::MaxTokens));
    assert_eq!(completion.tokens, Tokens { input: 5, output: 6 });

    let started = Instant::now();
    let (completion, pieces) = stream(&script, &request("slow")).await;
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(completion.unwrap().text, "one\ntwo\n");
    assert_eq!(pieces, ["one\n", "two\n"]);

    let error = ask(&script, &request("down")).await.unwrap_err();
    assert_eq!((error.status, error.retry), (Some(503), Some(Duration::from_millis(7))));
    assert_eq!(error.charged, Some(Tokens { input: 3, output: 0 }));
    let error = ask(&script, &request("bad")).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.refused, error.charged), ("No.", true, None));
}

#[tokio::test]
async fn what_nothing_matches_is_shown_at_its_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answers.toml");
    std::fs::write(&path, FILE).unwrap();
    let script = Script::open(&path).unwrap();
    let prompt = format!("something\nelse {}", "é".repeat(5000));
    let error = ask(&script, &request(&prompt)).await.unwrap_err();
    assert!(error.message.contains(r#""something\nelse éé"#), "{error}");
    assert!(error.message.contains("answers.toml") && error.message.chars().count() < 600, "{error}");
    assert!(!error.message.chars().any(char::is_control));
    assert_eq!(error.charged, None);
}

#[test]
fn bad_files_are_refused_with_the_place() {
    let rule = |rest: &str| format!("[[rule]]\nmatch = \"x\"\n{rest}\n");
    for (text, expected) in [
        (String::new(), "no `[[rule]]`"),
        ("nonsense".into(), "line 1"),
        (rule("repply = 'x'"), "repply"),
        (rule(""), "rule 1: it has neither"),
        (rule("reply = 'x'") + &rule("reply = 'x'\nerror = { message = 'y' }"), "rule 2: it has both"),
        (rule("reply = 7"), "line 3"),
        (rule("reply = 'x'\nsystem = '('"), "`system` is no pattern"),
        (rule("reply = 'x'\nmodel = 'a{1000000000}'"), "`model` is no pattern"),
        (rule("reply = 'x'\ntimes = -1"), "line 4"),
        (rule("reply = 'x'\nstop = 'never'"), "line 4"),
        (rule("reply = 'x'\ntokens = { in = 1 }"), "line 4"),
        (rule("error = { status = 429 }"), "message"),
    ] {
        let error = Script::parse(&text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model);
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    let error = Script::open("no/such/file.toml").unwrap_err();
    assert!(error.to_string().contains("no/such/file.toml"), "{error}");
}

#[tokio::test]
async fn scripts_can_be_written_in_rust() {
    let script = Script::new()
        .reply_times(1, "hello (.*)", "first $1")
        .answer_with(|request| {
            request.messages[0].content.strip_prefix("sum ").map(|rest| {
                let sum: i64 = rest.split(' ').filter_map(|number| number.parse::<i64>().ok()).sum();
                Reply::text(sum.to_string()).tokens(1, 2).stop(StopReason::Refusal)
            })
        })
        .reply("fail", Reply::error(ProviderError::new("as told")))
        .reply("hello", String::from("again"));
    assert_eq!(ask(&script, &request("hello you")).await.unwrap().text, "first you");
    assert_eq!(ask(&script, &request("hello you")).await.unwrap().text, "again");
    let completion = ask(&script, &request("sum 1 2 3")).await.unwrap();
    assert_eq!((completion.text.as_str(), completion.stop), ("6", StopReason::Refusal));
    assert_eq!(completion.tokens, Tokens { input: 1, output: 2 });
    assert_eq!(ask(&script, &request("fail")).await.unwrap_err().message, "as told");
}

#[tokio::test]
async fn the_order_is_that_of_the_calls() {
    let script = Script::new().reply_times(1, ".", "one").reply_times(1, ".", "two").reply(".", "rest");
    let request = request("x");
    let [first, second, third] = [0; 3].map(|_| script.complete(&request, None));
    assert_eq!(third.await.unwrap().text, "rest");
    assert_eq!(second.await.unwrap().text, "two");
    assert_eq!(first.await.unwrap().text, "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rules_are_used_as_often_as_they_may_be() {
    let script = Arc::new(Script::new().reply_times(37, ".", "few").reply(".", "many"));
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let script = Arc::clone(&script);
        asked.spawn(async move { ask(&*script, &request("x")).await.unwrap().text });
    }
    let texts = asked.join_all().await;
    assert_eq!(texts.iter().filter(|text| *text == "few").count(), 37);
}
