use std::time::Instant;
use agentkernel::Kernel;
fn main() {
    let what = std::env::args().nth(1).unwrap();
    let n: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let kernel = Kernel::new().unwrap();
    let mut times = Vec::new();
    let run = |s: &mut agentkernel::Session| { s.run_blocking("1+1").unwrap(); };
    match &*what {
        "plain" | "kept" => {
            let mut s = kernel.session().rollback(what == "kept").start().unwrap();
            for _ in 0..n { let t = Instant::now(); run(&mut s); times.push(t.elapsed()); }
        }
        "fresh" => for _ in 0..n {
            let t = Instant::now();
            let mut s = kernel.session().start().unwrap(); run(&mut s);
            times.push(t.elapsed());
            drop(s);
        },
        "fork" => {
            let mut s = kernel.session().start().unwrap(); run(&mut s);
            for _ in 0..n { let t = Instant::now(); let mut f = s.fork().unwrap(); run(&mut f); times.push(t.elapsed()); drop(f); }
        }
        "fork6" => {
            let mut s = kernel.session().start().unwrap();
            s.run_blocking("class P:\n    def __init__(self, n): self.n = n\nps = [P(n) for n in range(20_000)]\nnumbers = [n * 1001 for n in range(100_000)]").unwrap();
            for _ in 0..n { let t = Instant::now(); let mut f = s.fork().unwrap(); run(&mut f); times.push(t.elapsed()); drop(f); }
        }
        "kept6" => {
            let mut s = kernel.session().start().unwrap();
            s.run_blocking("class P:\n    def __init__(self, n): self.n = n\nps = [P(n) for n in range(20_000)]\nnumbers = [n * 1001 for n in range(100_000)]").unwrap();
            for _ in 0..n { let t = Instant::now(); run(&mut s); times.push(t.elapsed()); }
        }
        "save" => {
            let mut s = kernel.session().start().unwrap();
            s.run_blocking("class P:\n    def __init__(self, n): self.n = n\nps = [P(n) for n in range(20_000)]\nnumbers = [n * 1001 for n in range(100_000)]").unwrap();
            for _ in 0..n { let t = Instant::now(); s.snapshot().unwrap().save("/tmp/probe.akimg").unwrap(); times.push(t.elapsed()); }
        }
        "load" => for _ in 0..n { let t = Instant::now(); let i = kernel.load_image("/tmp/probe.akimg").unwrap(); times.push(t.elapsed()); let mut s = kernel.session().image(&i).start().unwrap(); run(&mut s); },
        _ => panic!(),
    }
    times.sort();
    println!("{what}: min {:?} median {:?}", times[0], times[times.len() / 2]);
}
