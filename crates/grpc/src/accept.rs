//! Accepts connections, whatever happens.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;

/// Pause after a connection could not be accepted, for example for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// The connections of a listener. It never ends and never fails.
pub(crate) struct Accept {
    listener: TcpListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Accept {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, pause: None }
    }
}

impl Stream for Accept {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) => {
                    // Answers are written whole: waiting for more to send would only delay them.
                    let _ = stream.set_nodelay(true);
                    return Poll::Ready(Some(Ok(stream)));
                }
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}
