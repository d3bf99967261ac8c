//! A tool for tests: see `wit/echo.wit`.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use exports::test::echo::counters::{Counter, CounterBorrow, Guest as Counters, GuestCounter};
use exports::test::echo::faults::{Fault, Guest as Faults};
use exports::test::echo::values::{Access, Color, Guest as Values, Person, Point, Shape};

wit_bindgen::generate!({ world: "echo", path: "wit" });

struct Echo;

export!(Echo);

macro_rules! echoes {
    ($($name:ident: $ty:ty,)*) => { $(fn $name(v: $ty) -> $ty { v })* };
}

impl Values for Echo {
    echoes! {
        bools: bool, s8s: i8, u8s: u8, s16s: i16, u16s: u16, s32s: i32, u32s: u32, s64s: i64, u64s: u64,
        f32s: f32, f64s: f64, chars: char, strings: String, bytes: Vec<u8>, floats: Vec<f64>,
        lists: Vec<Vec<String>>, tuples: (u8, String, f64), points: Point, people: Vec<Person>, shapes: Shape,
        colors: Color, accesses: Access, options: Option<String>, nested: Option<Option<u32>>,
        results: Vec<Result<u32, String>>,
    }

    fn many(
        a: u8, b: String, c: f64, d: Option<String>, e: Vec<u16>, f: Point, g: bool, h: char, i: i64, j: String, k: u32,
    ) -> (u8, String, f64, Option<String>, Vec<u16>, Point, bool, char, i64, String, u32) {
        (a, b, c, d, e, f, g, h, i, j, k)
    }

    fn nothing() {}

    fn add(a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }

    fn defaults(a: u32, b: Option<u32>, c: Option<String>) -> String {
        format!("{a} {b:?} {c:?}")
    }
}

impl Faults for Echo {
    fn fail(why: Fault) -> Result<String, Fault> {
        Err(why)
    }

    fn complain(why: String) -> Result<u32, String> {
        Err(why)
    }

    fn refuse() -> Result<(), ()> {
        Err(())
    }

    fn trap() {
        std::process::abort()
    }

    fn spin() {
        loop {
            std::hint::black_box(0);
        }
    }

    fn hoard(bytes: u64) -> u64 {
        let block = vec![1u8; bytes as usize];
        std::hint::black_box(&block).iter().map(|byte| u64::from(*byte)).sum()
    }

    fn recurse(depth: u64) -> u64 {
        let block = std::hint::black_box([depth; 16]);
        if depth == 0 { 0 } else { Self::recurse(depth - 1) + block[3] }
    }

    fn pause(milliseconds: u64) {
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    }

    fn print(text: String) {
        println!("{text}");
    }

    fn variable(name: String) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(path: String) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    }

    fn write(path: String, text: String) -> Result<(), String> {
        std::fs::write(path, text).map_err(|error| error.to_string())
    }

    fn connect(address: String) -> Result<(), String> {
        std::net::TcpStream::connect(address).map(drop).map_err(|error| error.to_string())
    }
}

static OPEN: AtomicU32 = AtomicU32::new(0);

struct Count(Cell<u32>);

impl Count {
    fn new(start: u32) -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Count(Cell::new(start))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters for Echo {
    type Counter = Count;

    fn total(of: Vec<CounterBorrow<'_>>) -> u32 {
        of.iter().map(|counter| counter.get::<Count>().0.get()).sum()
    }
}

impl GuestCounter for Count {
    fn new(start: u32) -> Self {
        Count::new(start)
    }

    fn next(&self) -> u32 {
        let next = self.0.get() + 1;
        self.0.set(next);
        next
    }

    fn merge(one: Counter, other: CounterBorrow<'_>) -> Counter {
        let sum = one.get::<Count>().0.get() + other.get::<Count>().0.get();
        Counter::new(Count::new(sum))
    }

    fn open() -> u32 {
        OPEN.load(Ordering::Relaxed)
    }
}
