//! The secret that clients show.

use std::fmt;
use std::hint::black_box;

use crate::error::{Error, Result};

/// Bytes of a token that nobody guesses.
const SHORTEST: usize = 16;

/// What clients show to be let in. It is never shown itself.
#[derive(Clone)]
pub struct Token(Vec<u8>);

impl Token {
    /// Reads a token; white space around it is not part of it.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] when it is shorter than 16 characters, or could not stand in a header.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() < SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::setting(
                "this is no token that can be used",
                format!(
                    "it is one line of {SHORTEST} and more letters, digits and signs; `openssl rand -hex 32` makes one"
                ),
            ));
        }
        Ok(Token(text.as_bytes().to_vec()))
    }

    /// Whether `given` is the same, in a time that says nothing of where it differs.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        let mut differs = u8::from(self.0.len() != given.len());
        for (at, byte) in self.0.iter().enumerate() {
            differs |= black_box(byte ^ given.get(at).copied().unwrap_or(0));
        }
        black_box(differs) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_is_the_same() {
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in [&b""[..], b"0123456789abcde", b"0123456789abcdeF", b"0123456789abcdef0"] {
            assert!(!token.is(other));
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
        for wrong in ["", "short", "0123456789abcdef 0", "0123456789äbcdef"] {
            assert!(Token::new(wrong).is_err(), "{wrong}");
        }
    }
}
