use super::*;

fn rule(text: &str) -> HttpRule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn allows(rules: &[&str], method: &str, uri: &str) -> bool {
    let rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
    let uri: Uri = uri.parse().unwrap();
    let Ok(target) = Target::of(&uri) else { return false };
    decide(&rules, method, &target, uri.path()).is_ok()
}

#[test]
fn rules_are_read_and_shown() {
    for text in [
        "api.example.com",
        "*.example.com",
        "*",
        "http://*",
        "http://127.0.0.1:8080",
        "[::1]:8443",
        "POST api.example.com/v1/*",
        "GET,POST,PUT api.example.com:8443/one",
        "* api.example.com",
        "private intranet",
        "private DELETE http://intranet:8080/a/*",
    ] {
        assert_eq!(rule(text).to_string(), text);
    }
    assert_eq!(rule("GET,HEAD https://API.Example.com:443/*").to_string(), "api.example.com");
    assert_eq!(rule("http://[::ffff:127.0.0.1]:80").to_string(), "http://127.0.0.1");
    for text in [
        "",
        "private",
        "get api.example.com",
        "POST",
        "GET POST api.example.com",
        "CONNECT api.example.com",
        "GET,,PUT a.b",
        "ftp://a.b",
        "user@a.b",
        "a.b:0",
        "a.b:65536",
        "a.b:",
        "a.b:+80",
        "a*.b",
        "*.1.2.3.4",
        "*.*",
        "a.b.",
        "a..b",
        "bücher.example",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "a.0x7f",
        "[::1",
        "[fe80::1%25eth0]",
        "0.0.0.0",
        "[::]",
        "224.0.0.1",
        "a.b/x?y",
        "a.b?y",
        "a.b/x*",
        "a.b/*/x",
        "a.b/x/../y",
        "a.b/%2e%2e/*",
    ] {
        if text == "POST" {
            // A name as good as any.
            continue;
        }
        let error = text.parse::<HttpRule>().expect_err(text);
        assert!(error.remedy().is_some(), "{text}");
    }
}

#[test]
fn rules_allow_what_they_say() {
    assert!(allows(&["api.example.com"], "GET", "https://api.example.com/any?q"));
    assert!(allows(&["api.example.com"], "HEAD", "https://API.EXAMPLE.COM:443/"));
    for (method, uri) in [
        ("POST", "https://api.example.com/"),
        ("get", "https://api.example.com/"),
        ("GET", "http://api.example.com/"),
        ("GET", "https://api.example.com:8443/"),
        ("GET", "https://example.com/"),
        ("GET", "https://x.api.example.com/"),
        ("GET", "https://api.example.com.evil.test/"),
        ("GET", "https://api.example.com@evil.test/"),
        ("GET", "https://user@api.example.com/"),
        ("GET", "https://api.example.com./"),
    ] {
        assert!(!allows(&["api.example.com"], method, uri), "{method} {uri}");
    }
    assert!(allows(&["*.example.com"], "GET", "https://a.b.example.com/"));
    assert!(!allows(&["*.example.com"], "GET", "https://example.com/"));
    assert!(!allows(&["*.example.com"], "GET", "https://evilexample.com/"));
    assert!(allows(&["* a.test"], "PATCH", "https://a.test/"));
    assert!(!allows(&["* a.test"], "CONNECT", "https://a.test/"));
    assert!(!allows(&["* a.test"], "TRACE", "https://a.test/"));
    assert!(allows(&["http://127.0.0.1:80"], "GET", "http://[::ffff:7f00:1]/"));
    assert!(!allows(&["*"], "GET", "https://2130706433/"));
}

#[test]
fn paths_are_as_they_stand() {
    let rules = &["a.test/v1/*", "a.test/one"];
    for path in ["/v1/", "/v1/x/y", "/v1/a..b", "/v1/%20", "/one", "/one?x"] {
        assert!(allows(rules, "GET", &format!("https://a.test{path}")), "{path}");
    }
    for path in [
        "/",
        "/v1",
        "/v1x",
        "/V1/x",
        "/one/",
        "/two",
        "/v1/../x",
        "/v1/..",
        "/v1/./x",
        "/v1/%2e%2e/x",
        "/v1/.%2E/x",
        "/v1/%252e%252e/x",
        "/v1/..;/x",
        "/v1/..%3b/x",
        "/v1/..%2fx",
        "/v1/..%5cx",
        "/v1/..%255cx",
        "/%76%31/",
    ] {
        assert!(!allows(rules, "GET", &format!("https://a.test{path}")), "{path}");
    }
}

#[test]
fn a_refusal_names_the_rule_that_is_missing() {
    let missing = |rules: &[&str], method: &str, uri: &str| {
        let rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
        let uri: Uri = uri.parse().unwrap();
        let target = Target::of(&uri).unwrap();
        let text = decide(&rules, method, &target, uri.path()).unwrap_err().unwrap();
        let granted = [rule(&text)];
        assert!(decide(&granted, method, &target, uri.path()).is_ok(), "{text}");
        text
    };
    assert_eq!(missing(&[], "GET", "https://a.test/x"), "a.test");
    assert_eq!(missing(&["a.test"], "POST", "https://a.test/x"), "POST a.test");
    assert_eq!(missing(&["a.test/x"], "GET", "https://a.test/y"), "a.test/y");
    assert_eq!(missing(&["a.test/x/*"], "GET", "https://a.test/x/../y"), "a.test");
    assert_eq!(missing(&[], "PUT", "http://[::1]:9/"), "PUT http://[::1]:9");
}
