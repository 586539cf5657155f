//! Copies of data that has been received, which lies anywhere.

/// What the C library copies with vectors. For more than a few KiB it has the processor do it in one
/// instruction (`rep movsb`), which AMD's take ten times as long for and more if the target lies a few
/// bytes further into its page than the source: 2 to 3.5 ms, not 0.2, for a picture of 6 MB
/// (`examples/copies.rs`).
const PIECE: usize = 2048;

/// As `to.copy_from_slice(from)`: both must be of the same length.
pub(crate) fn copy_unaligned(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy is as long as what is copied");
    for (to, from) in to.chunks_mut(PIECE).zip(from.chunks(PIECE)) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_copied() {
        let from: Vec<u8> = (0..3 * PIECE).map(|number| number as u8 ^ 0x5a).collect();
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let mut to = vec![0; len];
            copy_unaligned(&mut to, &from[3 * PIECE - len..]);
            assert_eq!(to, from[3 * PIECE - len..]);
        }
    }
}
