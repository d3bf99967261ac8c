//! The targets on inputs that are the same each time: random ones, and changed copies of good ones.

use std::path::Path;

use super::{Callee, TYPES, json, read};

/// Calls `target` with changed copies of `seeds`.
fn each(count: u64, seeds: &[Vec<u8>], mut target: impl FnMut(&[u8])) {
    for number in 0..count {
        let mut chance = fastrand::Rng::with_seed(number);
        let mut input = match seeds.len() {
            0 => Vec::new(),
            count => seeds[chance.usize(..count)].clone(),
        };
        if input.is_empty() || chance.u8(..4) == 0 {
            let length = chance.usize(..96);
            let byte = || if chance.bool() { chance.u8(..4) } else { chance.u8(..) };
            input = std::iter::repeat_with(byte).take(length).collect();
        }
        for _ in 0..chance.usize(..4) {
            let at = chance.usize(..=input.len());
            match chance.u8(..5) {
                0 => input.truncate(at),
                1 => input.insert(at, chance.u8(..)),
                2 if at < input.len() => input[at] = chance.u8(..),
                3 if at < input.len() => input[at] ^= 1 << chance.u8(..8),
                _ => {
                    let piece = input[at..].iter().copied().take(chance.usize(..64)).collect::<Vec<_>>();
                    let at = chance.usize(..=input.len());
                    input.splice(at..at, piece);
                }
            }
        }
        target(&input);
    }
}

fn component(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools").join(name)).unwrap()
}

fn results() -> Vec<u8> {
    wat::parse_str(include_str!("results.wat")).unwrap()
}

#[test]
fn descriptions() {
    let seeds = [TYPES.into(), results(), b"/// Docs.\nf: async func(a: u8) -> string;".to_vec()];
    each(3_000, &seeds, read);
    each(30, &[component("echo.wasm")], read);
}

#[test]
fn arguments_as_json() {
    let seeds: [&[u8]; 6] = [
        b"\x01[\"a\", {\"b\": [1.5, null]}, [\"c\"]]",
        b"\x03{\"a\": {\"name\": \"n\", \"place\": {\"x\": 1, \"y\": -2}, \"tags\": [], \"any\": 1}, \"b\": []}",
        b"\x04[{\"maybe\": {\"some\": \"x\"}}, \"red\", [\"run\"], [\"e1\", \"a0\"]]",
        b"\x06[{\"ok\": 1}, {\"err\": {\"circle\": \"NaN\"}}, {\"ok\": {}}, {\"err\": null}]",
        b"\x07[{\"k\": 1}, {\"12\": [\"\xc3\xa9\"]}, {\"true\": {\"-1\": \"v\"}}]",
        b"\x01\x02\0\0\0ab\x04\0\0\0null\x01\0\0\0\x01\0\0\0c",
    ];
    each(20_000, &seeds.map(<[u8]>::to_vec), json);
}

#[test]
fn arguments_in_memory() {
    let mut callee = Callee::new(&component("echo.wasm"));
    let seeds: [&[u8]; 4] = [
        b"\x0c\0\x02\0\0\0ab",
        b"\x0f\0\x01\0\0\0\x02\0\0\0\x01\0\0\0a\0\0\0\0",
        b"\x12\0\x01\0\0\0\x01\0\0\0n\x01\x07\x01\0\0\0\x02\0\0\0xy\x01\0\0\0\x02\0\0\0",
        b"\x18\0\x02\0\0\0\0\x01\0\0\0\x01\x01\0\0\0e",
    ];
    each(5_000, &seeds.map(<[u8]>::to_vec), |data| callee.lower(data));
}

#[test]
fn results_from_memory() {
    let mut callee = Callee::new(&results());
    let words = |choice: u8, words: &[u32]| {
        [choice].into_iter().chain(words.iter().flat_map(|word| word.to_le_bytes())).collect::<Vec<u8>>()
    };
    let seeds: Vec<Vec<u8>> =
        (0..27).map(|choice| words(choice, &[8, 2, 16, 1, 0, 1, 65, 66, 0, 8, 1])).collect();
    each(20_000, &seeds, |data| callee.lift(data));
}
