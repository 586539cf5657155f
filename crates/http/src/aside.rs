//! Work that would keep the reactor from everybody else.

/// Bytes that are worked on at once: that takes less time than waking another thread.
pub(crate) const INLINE: usize = 32 << 10;

/// Does work on `len` bytes: here if they are few, otherwise where nobody waits for the reactor.
pub(crate) async fn aside<T: Send + 'static>(
    len: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if len <= INLINE {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
