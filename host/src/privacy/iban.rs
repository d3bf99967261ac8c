//! Bank account numbers (ISO 13616), by the length that their country gives them and their check digits.

/// Countries and the lengths of their numbers.
const LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 \
    DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 \
    KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 \
    PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

/// Tells where numbers are, written in one or in groups.
pub(super) fn find(text: &str, found: &mut impl FnMut(usize, usize)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at + 15 <= bytes.len() {
        let begins = bytes[at].is_ascii_alphabetic()
            && bytes[at + 1].is_ascii_alphabetic()
            && bytes[at + 2].is_ascii_digit()
            && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric());
        match begins.then(|| number(text, at)).flatten() {
            Some(end) => {
                found(at, end);
                at = end;
            }
            None => at += 1,
        }
    }
}

/// The end of the number that begins at `start`, if one does.
fn number(text: &str, start: usize) -> Option<usize> {
    let country = text.get(start..start + 2)?.to_ascii_uppercase();
    let length: usize = LENGTHS.split(' ').find_map(|entry| entry.strip_prefix(&country))?.parse().ok()?;
    let (mut letters, mut end, mut separated) = (Vec::with_capacity(length), start, true);
    for (offset, letter) in text[start..].char_indices() {
        match letter {
            _ if letter.is_ascii_alphanumeric() && letters.len() == length => return None,
            _ if letter.is_ascii_alphanumeric() => {
                letters.push(letter.to_ascii_uppercase() as u8);
                (end, separated) = (start + offset + 1, false);
            }
            ' ' | '\u{a0}' | '-' if !separated && letters.len() < length => separated = true,
            _ => break,
        }
    }
    // The four that it begins with are its last digits for the check.
    let digits = letters.iter().cycle().skip(4).take(length);
    let rest = digits.fold(0u32, |rest, letter| match letter {
        b'0'..=b'9' => (rest * 10 + u32::from(letter - b'0')) % 97,
        _ => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    (letters.len() == length && rest == 1).then_some(end)
}
