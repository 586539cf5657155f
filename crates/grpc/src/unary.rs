//! `ModelInfer` for messages that are not compressed, which are nearly all: large tensors are received
//! straight into the arena, where workers can see them, and are sent from where they lie. Every other
//! call, and every compressed one, goes through tonic, which copies a message at either end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use nereid_arena::{ALIGNMENT, ARENA_THRESHOLD, Arena};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::Status;
use tonic::body::Body;

use crate::infer::infer;
use crate::proto::{ModelInferRequest, ModelInferResponse};
use crate::service::App;
use crate::status::{MAX_MESSAGE, status};
use crate::trace::Beginning;

const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// In front of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The field of a response that holds its tensors, behind all others.
const RAW_OUTPUT_CONTENTS: u32 = 6;
/// Answers up to this size are copied together: one frame costs less than several.
const JOIN_BELOW: usize = 16 << 10;
/// What is set aside at once for a message that does not go into the arena.
const FIRST_CAPACITY: usize = 64 << 10;

/// Whether this is such a call.
pub(crate) fn is_plain_infer(request: &Request<Incoming>, compress: bool) -> bool {
    let headers = request.headers();
    let plain = |name| match headers.get(name) {
        None => true,
        Some(encoding) => encoding.as_bytes() == b"identity",
    };
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    request.uri().path() == PATH
        && request.method() == Method::POST
        && matches!(kind, b"application/grpc" | b"application/grpc+proto")
        && plain("grpc-encoding")
        && (!compress || plain("grpc-accept-encoding"))
}

pub(crate) async fn answer(app: &App, request: Request<Incoming>) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    match called(app, &head.headers, &mut body).await {
        Ok(response) => reply(response),
        Err(status) => status.into_http(),
    }
}

async fn called(
    app: &App,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<ModelInferResponse, Status> {
    let beginning = Beginning::of(app, headers);
    let forwarded = app.forwarded(headers);
    let message = receive(body, &app.arena).await?;
    let message = ModelInferRequest::decode(message)
        .map_err(|error| Status::internal(format!("failed to decode Protobuf message: {error}")))?;
    infer(app, message, forwarded, beginning).await.map_err(|error| status(&error))
}

/// Receives the only message of a call. A large one is placed such that its end is aligned, and so
/// is, most of the time, the tensor that it ends with.
async fn receive(body: &mut Incoming, arena: &Arena) -> Result<Bytes, Status> {
    let mut first =
        next(body).await?.ok_or_else(|| Status::internal("Missing request message."))?;
    while first.len() < PREFIX {
        let more = next(body).await?.ok_or_else(cut_short)?;
        first = [first, more].concat().into();
    }
    if first[0] != 0 {
        return Err(Status::internal(
            "protocol error: received message with compressed-flag but no grpc-encoding was \
             specified",
        ));
    }
    let len = u32::from_be_bytes([first[1], first[2], first[3], first[4]]) as usize;
    if len > MAX_MESSAGE {
        return Err(Status::out_of_range(format!(
            "Error, decoded message length too large: found {len} bytes, the limit is: \
             {MAX_MESSAGE} bytes"
        )));
    }
    let first = first.slice(PREFIX..);
    // Most requests: small, and here at once.
    if first.len() >= len {
        return Ok(first.slice(..len));
    }
    let start = len.wrapping_neg() % ALIGNMENT;
    let chunk = if len >= ARENA_THRESHOLD { arena.allocate(start + len) } else { None };
    let Some(mut chunk) = chunk else {
        let mut whole = BytesMut::with_capacity(len.min(FIRST_CAPACITY));
        whole.extend_from_slice(&first);
        while whole.len() < len {
            whole.extend_from_slice(&next(body).await?.ok_or_else(cut_short)?);
        }
        return Ok(whole.freeze().slice(..len));
    };
    let (mut at, end) = (start, start + len);
    let mut piece = first;
    loop {
        let size = piece.len().min(end - at);
        at = chunk.put(at, &piece[..size]).expect("the chunk is as long as the message");
        if at == end {
            return Ok(chunk.freeze().slice(start..end));
        }
        piece = next(body).await?.ok_or_else(cut_short)?;
    }
}

/// The next piece of data; trailers are of no interest.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Status> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(Status::unknown(format!("no request: {error}"))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn cut_short() -> Status {
    Status::internal("Unexpected EOF decoding stream.")
}

fn reply(message: ModelInferResponse) -> Response<Body> {
    let mut response = Response::new(Body::new(Reply::new(message)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A message in pieces, and the status behind it.
struct Reply {
    pieces: VecDeque<Bytes>,
    ended: bool,
}

impl Reply {
    fn new(mut message: ModelInferResponse) -> Self {
        let contents = std::mem::take(&mut message.raw_output_contents);
        let fields = message.encoded_len();
        let tensors: usize =
            contents.iter().map(|tensor| tensor_head(tensor).len() + tensor.len()).sum();
        let all = PREFIX + fields + tensors;
        let join = all <= JOIN_BELOW;
        let mut last = BytesMut::with_capacity(if join { all } else { PREFIX + fields + 16 });
        last.put_u8(0);
        // Larger answers are not made: `encode` refuses them.
        last.put_u32(u32::try_from(fields + tensors).unwrap_or(u32::MAX));
        // There is room for it.
        let _ = message.encode(&mut last);
        let mut pieces = VecDeque::with_capacity(if join { 1 } else { 2 * contents.len() + 1 });
        for tensor in contents {
            last.extend_from_slice(&tensor_head(&tensor));
            if join {
                last.extend_from_slice(&tensor);
            } else {
                pieces.extend([last.split().freeze(), tensor]);
            }
        }
        if !last.is_empty() {
            pieces.push_back(last.freeze());
        }
        Self { pieces, ended: false }
    }
}

/// What stands in front of a tensor in a response.
fn tensor_head(tensor: &Bytes) -> Vec<u8> {
    let mut head = Vec::with_capacity(11);
    encode_key(RAW_OUTPUT_CONTENTS, WireType::LengthDelimited, &mut head);
    encode_varint(tensor.len() as u64, &mut head);
    head
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // No frame may be empty, or the reader takes it for the end.
        while let Some(piece) = self.pieces.pop_front() {
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::model_infer_response::InferOutputTensor;

    #[test]
    fn a_reply_is_the_message_whatever_its_size() {
        for sizes in [&[][..], &[0], &[5], &[0, 100_000, 0], &[3, 20_000]] {
            let message = ModelInferResponse {
                model_name: "m".to_owned(),
                id: "7".to_owned(),
                outputs: sizes.iter().map(|_| InferOutputTensor::default()).collect(),
                raw_output_contents: sizes.iter().map(|&size| vec![7; size].into()).collect(),
                ..ModelInferResponse::default()
            };
            let sent = Reply::new(message.clone()).pieces.into_iter().collect::<Vec<_>>().concat();
            let len = u32::from_be_bytes(sent[1..PREFIX].try_into().unwrap()) as usize;
            assert_eq!((sent[0], len), (0, sent.len() - PREFIX));
            assert_eq!(ModelInferResponse::decode(&sent[PREFIX..]).unwrap(), message);
        }
    }
}
