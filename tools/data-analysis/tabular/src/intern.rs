//! Texts of a column: each once in one arena, if there are not too many different ones.

use crate::column::{Result, out_of_memory, room};

/// The code of a missing text.
pub const MISSING: u32 = u32::MAX;

/// Texts by their codes.
#[derive(Debug, Default)]
pub struct Dictionary {
    bytes: Vec<u8>,
    /// Where each text ends.
    ends: Vec<u32>,
    /// Whether no text is there twice.
    pub distinct: bool,
}

impl Dictionary {
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    fn slice(&self, code: u32) -> &[u8] {
        let code = code as usize;
        let start = if code == 0 { 0 } else { self.ends[code - 1] as usize };
        &self.bytes[start..self.ends[code] as usize]
    }

    pub fn get(&self, code: u32) -> &str {
        // SAFETY: only whole texts are added, and each was checked.
        unsafe { std::str::from_utf8_unchecked(self.slice(code)) }
    }

    fn push(&mut self, text: &[u8]) -> Result<u32> {
        if std::str::from_utf8(text).is_err() {
            return Err(NOT_UTF8.into());
        }
        let code = self.ends.len() as u32;
        let end = self.bytes.len() + text.len();
        if code == MISSING || end > u32::MAX as usize {
            return Err("a column has more text than 4 GiB".into());
        }
        grow(&mut self.bytes, text.len())?;
        grow(&mut self.ends, 1)?;
        self.bytes.extend_from_slice(text);
        self.ends.push(end as u32);
        Ok(code)
    }
}

/// What a text that is not UTF-8 is refused with.
pub const NOT_UTF8: &str = "the text is not UTF-8; read the file in Python with its encoding, as in \
    `from_csv(open(path, encoding=\"latin-1\").read())`";

/// Makes room for more items, by half of what is there: memory is scarcer than time.
fn grow<T>(vector: &mut Vec<T>, more: usize) -> Result<()> {
    if vector.capacity() - vector.len() < more {
        let wanted = more.max(vector.len() / 2).max(64);
        vector.try_reserve_exact(wanted).map_err(|_| out_of_memory(wanted * size_of::<T>()))?;
    }
    Ok(())
}

/// Gives texts codes: equal texts the same one, until there are so many different ones that it does not pay.
pub struct Interner {
    dictionary: Dictionary,
    /// Codes plus one by hash, with open addressing; the upper half is a part of the hash.
    slots: Vec<u64>,
    added: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Interner {
            dictionary: Dictionary { distinct: true, ..Dictionary::default() },
            slots: vec![0; 64],
            added: 0,
        }
    }
}

impl Interner {
    /// The code of a text that may be UTF-8 or not.
    #[inline]
    pub fn add(&mut self, text: &[u8]) -> Result<u32> {
        let hash = hash(text);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return self.insert(text, hash, at);
            }
            if slot >> 32 == hash >> 32 && self.dictionary.slice(slot as u32 - 1) == text {
                return Ok(slot as u32 - 1);
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(never)]
    fn insert(&mut self, text: &[u8], hash: u64, at: usize) -> Result<u32> {
        let code = self.dictionary.push(text)?;
        self.slots[at] = hash >> 32 << 32 | u64::from(code + 1);
        self.added += 1;
        if self.added * 8 > self.slots.len() * 7 {
            let mut slots: Vec<u64> = room(self.slots.len() * 2)?;
            slots.resize(self.slots.len() * 2, 0);
            let mask = slots.len() - 1;
            for slot in self.slots.iter().filter(|slot| **slot != 0) {
                let mut at = self::hash(self.dictionary.slice(*slot as u32 - 1)) as usize & mask;
                while slots[at] != 0 {
                    at = (at + 1) & mask;
                }
                slots[at] = *slot;
            }
            self.slots = slots;
        }
        Ok(code)
    }

    /// How many different texts there are.
    pub fn count(&self) -> usize {
        self.dictionary.count()
    }

    pub fn finish(self) -> Dictionary {
        let mut dictionary = self.dictionary;
        dictionary.bytes.shrink_to_fit();
        dictionary.ends.shrink_to_fit();
        dictionary
    }

    /// Goes on without looking whether a text is there already.
    pub fn forget(self) -> Dictionary {
        Dictionary { distinct: false, ..self.dictionary }
    }
}

impl Dictionary {
    /// Adds a text as a new one.
    pub fn append(&mut self, text: &[u8]) -> Result<u32> {
        self.push(text)
    }
}

#[inline]
fn hash(text: &[u8]) -> u64 {
    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = text.len() as u64 ^ 0x2545_f491_4f6c_dd1d;
    let mut rest = text;
    while rest.len() >= 8 {
        let (word, after) = rest.split_at(8);
        state = mix(state ^ u64::from_le_bytes(word.try_into().unwrap_or_default()), A);
        rest = after;
    }
    let mut word = 0;
    for byte in rest {
        word = word << 8 | u64::from(*byte);
    }
    mix(state ^ word, A)
}

/// Spreads all bits over all others.
#[inline]
pub fn mix(one: u64, other: u64) -> u64 {
    let product = one.wrapping_mul(other);
    (product ^ product >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(29)
}

/// Gives numbers codes in the order in which they come.
pub struct Numbering {
    slots: Vec<(u64, u32)>,
    count: u32,
}

impl Default for Numbering {
    fn default() -> Self {
        Numbering { slots: vec![(0, 0); 64], count: 0 }
    }
}

impl Numbering {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    #[inline]
    pub fn add(&mut self, key: u64) -> Result<u32> {
        let mask = self.slots.len() - 1;
        let mut at = mix(key, 0x9e37_79b9_7f4a_7c15) as usize & mask;
        loop {
            let (there, code) = self.slots[at];
            if code == 0 {
                break;
            }
            if there == key {
                return Ok(code - 1);
            }
            at = (at + 1) & mask;
        }
        self.count += 1;
        self.slots[at] = (key, self.count);
        if self.count as usize * 4 > self.slots.len() * 3 {
            self.enlarge()?;
        }
        Ok(self.count - 1)
    }

    fn enlarge(&mut self) -> Result<()> {
        let mut slots: Vec<(u64, u32)> = room(self.slots.len() * 2)?;
        slots.resize(self.slots.len() * 2, (0, 0));
        let mask = slots.len() - 1;
        for slot in self.slots.iter().filter(|slot| slot.1 != 0) {
            let mut at = mix(slot.0, 0x9e37_79b9_7f4a_7c15) as usize & mask;
            while slots[at].1 != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = *slot;
        }
        self.slots = slots;
        Ok(())
    }
}
