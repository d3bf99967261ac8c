//! What is found and what is not; that everything comes back.

use proptest::prelude::*;

use super::stream::Stream;
use super::{Hidden, Privacy, Scope};
use crate::ErrorKind;

fn scope() -> Scope {
    Scope::new(Privacy::new().pattern("employee-id", r"E-\d{6}").unwrap())
}

fn hide(scope: &Scope, text: &str) -> String {
    scope.hide(text, &mut 0).unwrap()
}

#[track_caller]
fn found(text: &str, expected: &[&str]) {
    let found: Vec<&str> =
        Privacy::new().find(text).iter().map(|found| &text[found.start..found.end]).collect();
    assert_eq!(found, expected, "{text:?}");
}

#[test]
fn addresses() {
    for (text, expected) in [
        ("write to ada@example.com.", &["ada@example.com"][..]),
        ("<ada.l+x@mail.example.co.uk>,bob_1@x-y.de;", &["ada.l+x@mail.example.co.uk", "bob_1@x-y.de"]),
        ("mailto:ünïcode@straße.de?", &["ünïcode@straße.de"]),
        ("'o'neill@example.com'", &["o'neill@example.com"]),
        ("a@b.co@c.de", &["a@b.co"]),
        ("{\"mail\":\"ada@example.com\"}", &["ada@example.com"]),
        ("ada@xn--bcher-kva.example", &["ada@xn--bcher-kva.example"]),
        ("a@b, @x.de, a@.de, pip install x@1.2.3, @decorator.call", &[]),
        ("@@@@@", &[]),
    ] {
        found(text, expected);
    }
}

#[test]
fn phones() {
    for (text, expected) in [
        ("call +49 30 1234567 now", &["+49 30 1234567"][..]),
        ("+1 (212) 555-0123", &["+1 (212) 555-0123"]),
        ("+4915112345678", &["+4915112345678"]),
        ("0049 151 12345678", &["0049 151 12345678"]),
        (
            "(212) 555-0123 or 212.555.0124 or 1-800-555-0199",
            &["(212) 555-0123", "212.555.0124", "1-800-555-0199"],
        ),
        ("tel: 030/1234567, 06 12 34 56 78", &["030/1234567", "06 12 34 56 78"]),
        ("+44\u{a0}20\u{2011}7946\u{2011}0958", &["+44\u{a0}20\u{2011}7946\u{2011}0958"]),
        ("2026-01-31 12:00, 01.02.2026 10, 3.14159265358979, 192.168.100.200, v1.2.3", &[]),
        ("0.123456789 1,000,000,000 id 12345678901 0000000000 +12", &[]),
    ] {
        found(text, expected);
    }
}

#[test]
fn cards() {
    for (text, expected) in [
        ("4111111111111111", &["4111111111111111"][..]),
        ("card 4111 1111 1111 1111 exp 12 26", &["4111 1111 1111 1111"]),
        ("12 4111-1111-1111-1111", &["4111-1111-1111-1111"]),
        ("378282246310005 and 5555 5555 5555 4444", &["378282246310005", "5555 5555 5555 4444"]),
        ("4111111111111112", &[]),
        ("1234567812345670", &[]),
        ("41111111111111114111111111111111", &[]),
    ] {
        found(text, expected);
    }
}

#[test]
fn accounts() {
    for (text, expected) in [
        ("DE89370400440532013000", &["DE89370400440532013000"][..]),
        ("IBAN: DE89 3704 0044 0532 0130 00 EUR 5", &["DE89 3704 0044 0532 0130 00"]),
        ("gb82 west 1234 5698 7654 32", &["gb82 west 1234 5698 7654 32"]),
        ("NO93 8601 1117 947", &["NO93 8601 1117 947"]),
        ("DE89370400440532013001", &[]),
        ("XX89370400440532013000", &[]),
        ("ADE89370400440532013000", &[]),
    ] {
        found(text, expected);
    }
}

#[test]
fn keys() {
    let block = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA1234567890abcdef\nAAAA==\n-----END RSA PRIVATE KEY-----";
    let cut =
        "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA1234567890abcdef\nMIIEowIBAAKCAQEA1234567890abcdef";
    found(&format!("key:\n{block}\nend"), &[block]);
    found(&format!("{cut}\nThat was all of it."), &[cut]);
    let in_json = block.replace('\n', "\\n");
    found(&format!("{{\"key\":\"{in_json}\"}}"), &[&in_json]);
    let encrypted = "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,00112233\r\n\r\n\
        MIIEowIBAAKCAQEA1234567890abcdef\r\nMIIEowIBAAKCAQEA1234567890abcdef";
    found(&format!("{encrypted}\r\nand so on"), &[encrypted]);
    let escaped = encrypted.replace('\r', "\\r").replace('\n', "\\n");
    found(&format!("{{\"key\":\"{escaped}\"}}"), &[&escaped]);
    for (text, expected) in [
        ("OPENAI_API_KEY=sk-proj-abcdefghij0123456789", &["sk-proj-abcdefghij0123456789"][..]),
        ("AKIAIOSFODNN7EXAMPLE is an id", &["AKIAIOSFODNN7EXAMPLE"]),
        (
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            &["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"],
        ),
        ("Authorization: Bearer abcdef0123456789ABCDEF==", &["abcdef0123456789ABCDEF=="]),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", &["ghp_abcdefghijklmnopqrstuvwxyz0123456789"]),
        (
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
            &["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"],
        ),
        ("the bearer responsibilities; sk-learn-is-a-nice-library; -----BEGIN CERTIFICATE-----", &[]),
    ] {
        found(text, expected);
    }
}

#[test]
fn patterns_have_names_and_parts() {
    let privacy = Privacy::new().pattern("ward", r"Ward (?P<hide>\w+)").unwrap();
    assert_eq!(privacy.cover("in Ward Seven and Ward 9"), "in Ward <WARD> and Ward <WARD>");
    for (name, expression) in [
        ("", "x"),
        ("1a", "x"),
        ("a b", "x"),
        ("a-", "x"),
        ("email", "x"),
        ("WARD", "x"),
        ("x", "("),
        ("x", "x*"),
        ("x", r"(?i)\pL{5000}{1000}"),
    ] {
        let error = privacy.clone().pattern(name, expression).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{name} {expression}");
    }
    assert_eq!(Privacy::new().without(Hidden::Email).cover("a@b.de"), "a@b.de");
}

#[test]
fn the_same_value_has_the_same_token() {
    let scope = scope();
    assert_eq!(hide(&scope, "a@b.de, c@d.de, a@b.de"), "<EMAIL_1>, <EMAIL_2>, <EMAIL_1>");
    assert_eq!(hide(&scope, "c@d.de E-123456 +49 30 1234567"), "<EMAIL_2> <EMPLOYEE_ID_1> <PHONE_1>");
    let mut count = 0;
    scope.hide("a@b.de a@b.de <EMAIL_1>", &mut count).unwrap();
    assert_eq!(count, 2);
}

#[test]
fn tokens_come_back_in_many_forms() {
    let scope = scope();
    assert_eq!(hide(&scope, "a@b.de"), "<EMAIL_1>");
    for token in [
        "<EMAIL_1>",
        "<email_1>",
        "<Email_1>",
        "EMAIL_1",
        "< EMAIL_1 >",
        "<EMAIL 1>",
        "<EMAIL-1>",
        "<EMAIL1>",
        "&lt;EMAIL_1&gt;",
        r"\u003cEMAIL_1\u003e",
    ] {
        assert_eq!(scope.restore(token, false), "a@b.de", "{token}");
        assert_eq!(scope.restore(&format!("x {token}, y"), false), "x a@b.de, y");
    }
    for (token, text) in
        [("[EMAIL_1]", "[a@b.de]"), ("**<EMAIL_1>**", "**a@b.de**"), ("`EMAIL_1`", "`a@b.de`")]
    {
        assert_eq!(scope.restore(token, false), text);
    }
    for other in [
        // A name in a program that a model writes.
        "email_1",
        "<EMAIL_2>",
        "<EMAIL_0>",
        "<MAIL_1>",
        "MYEMAIL_1",
        "EMAIL_12",
        "EMAIL_1x",
        "<EMAIL_1",
        "<EMAIL_99999999999>",
    ] {
        let restored = scope.restore(other, false);
        assert!(!restored.contains('@') || other == "<EMAIL_1", "{other}");
    }
}

#[test]
fn values_in_json_are_written_as_json() {
    let scope = scope();
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\"\\\n-----END PRIVATE KEY-----";
    assert_eq!(hide(&scope, key), "<KEY_1>");
    let restored = scope.restore(r#"{"key": "<KEY_1>"}"#, true);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&restored).unwrap()["key"], key);
}

#[test]
fn a_session_hides_so_much_and_no_more() {
    let scope = scope();
    let mut text = String::new();
    for number in 0..100_001 {
        text += &format!("a{number}@b.de ");
    }
    assert!(scope.hide(&text, &mut 0).is_err());
    assert_eq!(scope.restore("<EMAIL_1>", false), "a0@b.de");
}

/// Many groups of digits are looked at in parts, and none is lost where they meet.
#[test]
fn numbers_are_found_in_long_rows() {
    for before in [4080, 4090, 4096, 5000, 12_000] {
        let text = format!("{}4111 1111 1111 1111 {}", "7 ".repeat(before), "7 ".repeat(3000));
        found(&text, &["4111 1111 1111 1111"]);
    }
}

/// Time grows with the text, whatever it is made of.
#[test]
fn nothing_takes_long() {
    let privacy = Privacy::new();
    for piece in [
        "@",
        "a@",
        "a.@b.",
        "1 ",
        "4 ",
        "6 ",
        "03 ",
        "4",
        "+1",
        "0(",
        "DE89 ",
        "-----BEGIN PRIVATE KEY-----",
        "-----END ",
        "eyJ",
        "eyJaaaaaaaaaa.",
        "sk-",
        "bearer ",
        "aws_secret_key=",
        "AKIA",
        "-AKIA0123456789ABCDEF",
        "<EMAIL_",
        "<EMAIL_1",
        "a",
        "\\u003c",
        "4111 1111 ",
        "SG.",
        "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA1234567890abcdef ",
    ] {
        let text = piece.repeat((512 << 10) / piece.len());
        let began = std::time::Instant::now();
        let scope = Scope::new(privacy.clone());
        let _ = scope.hide(&text, &mut 0).map(|hidden| scope.restore(&hidden, false));
        let took = began.elapsed();
        assert!(took.as_secs_f64() < 10.0, "512 KiB of {piece:?} took {took:?}");
    }
}

fn streamed(scope: &Scope, text: &str, cuts: &[usize]) -> String {
    let mut stream = Stream::new(scope, false);
    let mut out = String::new();
    let mut at = 0;
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.push(text.len());
    cuts.sort_unstable();
    for cut in cuts {
        if text.is_char_boundary(cut) && cut > at {
            stream.push(&text[at..cut], &mut |text| out += text);
            at = cut;
        }
    }
    stream.finish(&mut |text| out += text);
    out
}

#[test]
fn streams_hold_back_little() {
    let scope = scope();
    hide(&scope, "a@b.de");
    let mut stream = Stream::new(&scope, false);
    let pieces = std::cell::RefCell::new(Vec::new());
    for piece in ["Write to ", "<EM", "AIL", "_1", "> so", "on, E", "ven EMAIL", "_1", " or a < b", " c"] {
        stream.push(piece, &mut |text| pieces.borrow_mut().push(text.to_owned()));
        pieces.borrow_mut().push("|".into());
    }
    stream.finish(&mut |text| pieces.borrow_mut().push(text.to_owned()));
    assert_eq!(pieces.borrow().concat(), "Write to ||||a@b.de so|on, |Even ||a@b.de or a < b| |c");
}

/// Texts that are made of what is found, of tokens, and of what stands around them.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("ada@example.com".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("DE89370400440532013000".to_owned()),
        Just("+49 30 1234567".to_owned()),
        Just("sk-abcdefghij0123456789".to_owned()),
        Just("E-123456".to_owned()),
        "(<|&lt;|\\\\u003c)? ?(EMAIL|email|CARD|TEXT|KEY|Employee_Id|IBAN)[_ -]?[0-9]{0,3} ?(>|&gt;|\\\\u003e)?",
        "[<>&\\\\_ ;@.0-9a-zA-Z-]{0,6}",
        "\\PC{0,4}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn everything_comes_back(before in texts(), text in texts()) {
        let scope = scope();
        hide(&scope, &before);
        let hidden = hide(&scope, &text);
        prop_assert_eq!(scope.restore(&hidden, false), text);
    }

    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        let scope = scope();
        prop_assert_eq!(scope.restore(&hide(&scope, &text), false), text);
    }

    #[test]
    fn streams_give_the_same(text in texts(), answer in texts(), cuts in proptest::collection::vec(any::<usize>(), 0..20)) {
        let scope = scope();
        let hidden = hide(&scope, &text);
        let answer = hidden + &answer;
        prop_assert_eq!(streamed(&scope, &answer, &cuts), scope.restore(&answer, false));
    }
}
