//! Messages on the sockets: whatever comes is split as it was sent, and read or refused.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tcpguard::control::proto::{Call, MAX_REASON, VERSION, parse};
use tcpguard::control::{FrameError, FrameReader, Request, Response, response};
use tcpguard::text::event_line;
use tcpguard_engine::{Command, Engine, Mode, Rule, RuleReason, Timestamp, Tuning};
use tcpguard_host::time::Clock;
use tokio::io::{AsyncRead, ReadBuf};

/// The first byte says how long messages may be and in which pieces the rest of the input comes.
///
/// # Panics
/// When the messages differ from the ones sent, when an accepted message is read differently the
/// second time, or when the engine or the client derives something impossible from it.
pub fn control(input: &[u8]) {
    let Some((&first, stream)) = input.split_first() else { return };
    let limit = if first & 1 == 0 { 1 << 16 } else { 64 };
    let piece = 1 + usize::from(first >> 1);
    let messages = messages(stream, piece, limit);
    assert_eq!(messages, split(stream, limit), "in pieces of {piece}, of at most {limit}");
    let mut engine = Engine::new(Tuning::default(), Mode::Enforce).expect("the defaults agree");
    for message in messages.iter().flatten().flatten() {
        answer(message, &mut engine);
    }
}

fn answer(message: &[u8], engine: &mut Engine) {
    let request = match parse(message) {
        Ok(request) => request,
        Err(refusal) => return assert!(!refusal.message.is_empty(), "{refusal:?}"),
    };
    let call = Call { version: VERSION, request };
    let again = serde_json::to_vec(&call).expect("JSON");
    assert_eq!(parse(&again).as_ref(), Ok(&call.request), "read again");
    let clock = Clock { now: Timestamp::from_millis(1_000_000), wall: jiff::Timestamp::UNIX_EPOCH };
    let Request::Change { change, .. } = &call.request else { return };
    let result = engine.handle_request(clock.now, 0, change.clone());
    let answer = response(&call.request, result, clock);
    let written = serde_json::to_vec(&answer).expect("JSON");
    let read: Response = serde_json::from_slice(&written).expect("the client reads it");
    assert_eq!(read, answer);
    while let Some(command) = engine.next_command() {
        match command {
            Command::Alert { event, .. } => {
                assert!(!event_line(&event).contains(char::is_control));
            }
            Command::InstallRule(Rule { reason: RuleReason::Given { text }, .. }) => {
                assert!(text.len() <= MAX_REASON);
            }
            _ => {}
        }
    }
}

type Message = Result<Option<Vec<u8>>, FrameError>;

/// Messages that the reader finds in `stream`.
fn messages(stream: &[u8], piece: usize, limit: usize) -> Vec<Message> {
    let mut reader = FrameReader::new(Pieces { stream, piece }, limit);
    let mut messages = Vec::new();
    loop {
        let next = match pin!(reader.next()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => next,
            Poll::Pending => panic!("it waits for a stream that is all there"),
        };
        let goes_on = matches!(next, Ok(Some(_)));
        messages.push(next);
        if !goes_on {
            return messages;
        }
    }
}

/// The same, of a stream that is there as a whole.
fn split(stream: &[u8], limit: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut rest = stream;
    loop {
        let end = rest.iter().position(|byte| *byte == 0);
        let length = end.unwrap_or(rest.len());
        let last = match end {
            _ if length > limit => Err(FrameError::TooLong),
            Some(end) => {
                messages.push(Ok(Some(rest[..end].to_vec())));
                rest = &rest[end + 1..];
                continue;
            }
            None if rest.is_empty() => Ok(None),
            None => Err(FrameError::Broken),
        };
        messages.push(last);
        return messages;
    }
}

/// A stream that gives a few bytes at a time.
struct Pieces<'a> {
    stream: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = self.piece.min(self.stream.len()).min(buffer.remaining());
        let (now, later) = self.stream.split_at(length);
        buffer.put_slice(now);
        self.stream = later;
        Poll::Ready(Ok(()))
    }
}
