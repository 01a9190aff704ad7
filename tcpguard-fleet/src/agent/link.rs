//! The connection to the agent's socket: JSON, one message on each line, in both directions.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tcpguard_engine::FleetReport;
use tcpguard_host::json;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::outbox::Outbox;

/// Longest report, in bytes. One with 1,024 ports and the most incidents that an agent has takes a tenth of it.
pub const LONGEST_REPORT: u64 = 1 << 20;
/// Time between two connections.
const RETRY: Duration = Duration::from_secs(1);
/// Time within which the agent has to take a message, and to send a report. In peace it reports every second.
const PATIENCE: Duration = Duration::from_secs(10);

/// State of the agent, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct AgentState {
    /// Number of the connection, rising. An agent of another connection has no hints, and may lack rules.
    pub connection: u64,
    /// The last report; `None` without a connection, and before the first report of one.
    pub report: Option<Arc<FleetReport>>,
    /// Reason for which there is no report; `None` while there is one.
    pub problem: Option<String>,
}

/// Connects to the agent for ever. The last report is in `state`, and messages are taken from `outbox`.
pub async fn run(socket: &Path, outbox: &Outbox, state: &watch::Sender<AgentState>) -> Infallible {
    loop {
        let problem = match UnixStream::connect(socket).await {
            Ok(stream) => {
                outbox.clear();
                state.send_modify(|state| state.connection += 1);
                let (read, write) = stream.into_split();
                tokio::select! {
                    problem = receive(read, state) => problem,
                    problem = send(write, outbox) => problem,
                }
            }
            Err(error) => format!("{}: {error}", socket.display()),
        };
        state.send_modify(|state| {
            state.report = None;
            state.problem = Some(problem);
        });
        sleep(RETRY).await;
    }
}

/// Reads reports until the connection ends, and returns the reason.
async fn receive(read: impl AsyncRead + Unpin, state: &watch::Sender<AgentState>) -> String {
    let mut reader = BufReader::new(read);
    loop {
        match timeout(PATIENCE, next(&mut reader)).await {
            Ok(Ok(Some(report))) => state.send_modify(|state| {
                state.report = Some(Arc::new(report));
                state.problem = None;
            }),
            Ok(Ok(None)) => return "the agent closed the connection".to_owned(),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("no report of the agent within {}s", PATIENCE.as_secs()),
        }
    }
}

/// The next report; `None` at the end.
async fn next<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> io::Result<Option<FleetReport>> {
    let mut line = Vec::new();
    let read = reader.take(LONGEST_REPORT).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        let why =
            format!("a report of the agent is cut off, or longer than {LONGEST_REPORT} bytes");
        return Err(io::Error::other(why));
    }
    let unreadable = |why: String| {
        io::Error::other(format!(
            "a report of the agent cannot be read, install the same version: {why}"
        ))
    };
    let report: FleetReport =
        serde_json::from_slice(&line).map_err(|error| unreadable(error.to_string()))?;
    match report.schema == FleetReport::SCHEMA {
        true => Ok(Some(report)),
        false => Err(unreadable(format!("its schema is {:?}", report.schema))),
    }
}

/// Writes messages until the agent does not take one in time, and returns the reason.
async fn send(mut write: impl AsyncWrite + Unpin, outbox: &Outbox) -> String {
    loop {
        let message = outbox.next().await;
        let mut line = match json::bytes(&message) {
            Ok(line) => line,
            Err(error) => {
                log::error!("message to the agent not written: {error}");
                continue;
            }
        };
        line.push(b'\n');
        match timeout(PATIENCE, write.write_all(&line)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("the agent took no message within {}s", PATIENCE.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::super::tests::{hint, report};
    use super::*;

    fn line(report: &FleetReport) -> Vec<u8> {
        let mut line = serde_json::to_vec(report).expect("JSON");
        line.push(b'\n');
        line
    }

    #[tokio::test]
    async fn reports_come_in_and_messages_go_out_over_each_connection() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("fleet.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let (sender, mut state) = watch::channel(AgentState::default());
        let outbox = Outbox::default();
        let client = tokio::spawn({
            let (path, outbox) = (path.clone(), outbox.clone());
            async move { run(&path, &outbox, &sender).await }
        });
        for connection in 1..=2 {
            let (stream, _) = listener.accept().await.expect("a connection");
            let (read, mut write) = stream.into_split();
            write.write_all(&line(&report())).await.expect("taken");
            let seen = state.wait_for(|state| state.report.is_some()).await.expect("a report");
            assert_eq!((seen.connection, &seen.problem), (connection, &None));
            drop(seen);
            outbox.push(hint(443));
            let mut lines = BufReader::new(read).lines();
            let message = lines.next_line().await.expect("a line").expect("a message");
            assert_eq!(
                serde_json::from_str::<tcpguard_engine::FleetMessage>(&message).ok(),
                Some(hint(443))
            );
            drop((lines, write));
            let lost = state.wait_for(|state| state.report.is_none()).await.expect("lost");
            assert!(lost.problem.is_some());
        }
        client.abort();
    }

    #[tokio::test]
    async fn an_agent_of_another_version_is_no_agent() {
        let other = FleetReport { schema: "tcpguard.fleet.agent/2".to_owned(), ..report() };
        for (bytes, why) in [
            (line(&other), "its schema is \"tcpguard.fleet.agent/2\""),
            (b"{}\n".to_vec(), "install the same version"),
            (b"{".to_vec(), "cut off"),
            (Vec::new(), "closed the connection"),
        ] {
            let (sender, _) = watch::channel(AgentState::default());
            let problem = receive(&bytes[..], &sender).await;
            assert!(problem.contains(why), "{problem}");
        }
    }

    #[tokio::test]
    async fn an_endless_report_is_not_kept() {
        let (sender, _) = watch::channel(AgentState::default());
        let endless = vec![b'x'; 3 << 20];
        let problem = receive(&endless[..], &sender).await;
        assert!(problem.contains("longer than 1048576 bytes"), "{problem}");
    }

    /// Without a limit the last report of a stopped agent would count for ever.
    #[tokio::test(start_paused = true)]
    async fn an_agent_that_hangs_is_lost() {
        let (sender, _) = watch::channel(AgentState::default());
        let (read, _open) = tokio::io::duplex(64);
        assert_eq!(receive(read, &sender).await, "no report of the agent within 10s");
        let (write, _unread) = tokio::io::duplex(16);
        let outbox = Outbox::default();
        outbox.push(hint(443));
        assert_eq!(send(write, &outbox).await, "the agent took no message within 10s");
    }
}
