//! Names of skills: Python identifiers that are no other name.

use super::wrong;
use crate::Result;

/// Characters of a name.
const LONGEST: usize = 64;

/// Words of the language, names that every program has, and files that Windows has everywhere.
const TAKEN: &str = "False None True and as assert async await break case class continue def del elif else except finally for \
    from global if import in is lambda match nonlocal not or pass raise return try type while with yield \
    abs aiter all anext any ascii bin bool breakpoint bytearray bytes callable chr classmethod compile complex copyright \
    credits delattr dict dir divmod enumerate eval exec exit filter float format frozenset getattr globals hasattr hash help \
    hex id input int isinstance issubclass iter len license list locals map max memoryview min next object oct open ord pow \
    print property quit range repr reversed round set setattr slice sorted staticmethod str sum super tuple vars zip \
    agentkernel skills tools state context ask_llm ask_llm_async ask_llm_batch rlm answer budget main \
    aux con nul prn com1 com2 com3 com4 com5 com6 com7 com8 com9 lpt1 lpt2 lpt3 lpt4 lpt5 lpt6 lpt7 lpt8 lpt9";

/// Refuses what cannot name a skill.
pub(super) fn check(name: &str) -> Result<()> {
    let is_identifier = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !is_identifier || name.len() > LONGEST {
        return Err(wrong(format!("`{}` cannot name a skill", shown(name))).hint(format!(
            "a name is at most {LONGEST} letters, digits and underscores, and begins with a letter: `parse_dates`"
        )));
    }
    if TAKEN.split_whitespace().any(|taken| taken.eq_ignore_ascii_case(name)) {
        return Err(wrong(format!("`{name}` means something else in programs, so it cannot name a skill"))
            .hint(format!("name it after what it does: `{name}_of_orders`")));
    }
    Ok(())
}

/// The beginning of a text that a program made up, without what a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    super::format::plain(&text.chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers_that_shadow_nothing() {
        for good in ["a", "parse_dates", "x2", "Dates", &"n".repeat(64)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "a.b",
            "_a",
            "__init__",
            "2x",
            "a b",
            "a-b",
            "ä",
            "a\0",
            "a\n",
            "class",
            "list",
            "List",
            "print",
            "skills",
            "CON",
            "nul",
            &"n".repeat(65),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(shown("\u{1b}[31mx\u{202e}"), "\\u{1b}[31mx\\u{202e}");
    }
}
