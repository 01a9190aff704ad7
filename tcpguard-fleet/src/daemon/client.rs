//! The client of the sockets of processes, for the command line.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tcpguard_host::hint::Failure;
use tcpguard_host::json;

use super::request::{Request, Response};

/// Longest response, in bytes: the state of a fleet of 100,000 hosts takes 60 MB.
const LONGEST: u64 = 256 << 20;
/// Time for the response.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks the process at this socket.
///
/// # Errors
/// When it does not run, may not be asked, or refuses the request.
pub fn call(socket: &Path, request: &Request) -> Result<Response, Failure> {
    let answer = exchange(socket, request).map_err(|error| unreachable(socket, &error))?;
    match serde_json::from_slice(&answer) {
        Ok(Response::Refused { message, hint }) => Err(Failure::new(message, hint)),
        Ok(response) => Ok(response),
        Err(error) => {
            let message =
                format!("{} sent a response that cannot be read: {error}", socket.display());
            Err(Failure::new(message, "systemctl restart 'tcpguard-fleet*'"))
        }
    }
}

fn exchange(socket: &Path, request: &Request) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = json::bytes(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    match answer.last() {
        Some(b'\n') => Ok(answer),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let shown = socket.display();
    let unit = match socket.file_stem().and_then(|stem| stem.to_str()) {
        Some("collector") => "tcpguard-fleet-collect",
        Some("controller") => "tcpguard-fleet-relief",
        _ => "tcpguard-fleet",
    };
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
            format!("{unit} is not running: no process listens on {shown}"),
            format!("systemctl start {unit}, and: journalctl -u {unit}"),
        ),
        // Its group may give the agent rules, too.
        io::ErrorKind::PermissionDenied => {
            Failure::new(format!("permission denied: {shown}"), "use sudo")
        }
        _ => Failure::new(format!("{shown}: {error}"), format!("journalctl -u {unit}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_not_sent_into_the_group_that_makes_rules() {
        let denied = unreachable(Path::new("edge.sock"), &io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.hint, "use sudo");
    }

    #[test]
    fn a_process_that_does_not_run_is_named_with_its_unit() {
        let directory = tempfile::tempdir().expect("a directory");
        for (socket, unit) in [
            ("edge.sock", "systemctl start tcpguard-fleet,"),
            ("collector.sock", "systemctl start tcpguard-fleet-collect,"),
            ("controller.sock", "systemctl start tcpguard-fleet-relief,"),
        ] {
            let failure = call(&directory.path().join(socket), &Request::Status);
            let failure = failure.expect_err("no process");
            assert!(failure.hint.starts_with(unit), "{}", failure.hint);
        }
    }
}
