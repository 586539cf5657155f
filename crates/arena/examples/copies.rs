//! What a copy of 6 MB into the arena costs, in one go and as `Chunk::put` does it, depending on how
//! far into its page the target lies behind the source. Received data comes in pieces of 64 KiB.
//!
//!     cargo run --release -p nereid-arena --example copies

use std::time::{Duration, Instant};

use nereid_arena::Arena;

const RECEIVED: usize = 64 << 10;
const PIECES: usize = 95;

fn main() {
    let arena = Arena::new().expect("there is memory to share");
    // Both start pages: the source by its place in a chunk of its own.
    let mut source = arena.allocate(RECEIVED).expect("the arena has room");
    let mut target = arena.allocate(RECEIVED * (PIECES + 1)).expect("the arena has room");
    source.fill(1);
    target.fill(2);
    println!("bytes behind the source | in one go, µs | put, µs");
    for behind in [0, 1, 8, 16, 32, 64] {
        let whole = best(|at| target[behind + at..][..RECEIVED].copy_from_slice(&source));
        let put = best(|at| {
            target.put(behind + at, &source).expect("the target has room");
        });
        println!("{behind} | {} | {}", whole.as_micros(), put.as_micros());
    }
}

/// The best of nine times all pieces.
fn best(mut copy: impl FnMut(usize)) -> Duration {
    let mut once = || {
        let began = Instant::now();
        (0..PIECES).for_each(|piece| copy(piece * RECEIVED));
        began.elapsed()
    };
    (0..9).map(|_| once()).min().unwrap_or_default()
}
