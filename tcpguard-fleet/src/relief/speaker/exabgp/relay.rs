//! The process that ExaBGP starts for its API: it carries the lines between ExaBGP's pipes and a socket.
//!
//! It ends when either side does. ExaBGP is the child of the controller, and this is the child of ExaBGP.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

/// Carries standard input to the socket, and the socket to standard output.
///
/// # Errors
/// When the socket cannot be reached, or an end of it breaks.
pub fn run(socket: &Path) -> io::Result<()> {
    carry(UnixStream::connect(socket)?, io::stdin(), io::stdout())
}

fn carry(
    socket: UnixStream,
    mut input: impl io::Read + Send + 'static,
    mut output: impl io::Write,
) -> io::Result<()> {
    let mut sink = socket.try_clone()?;
    // It is not waited for: without the socket there is nothing to carry.
    thread::spawn(move || {
        let copied = io::copy(&mut input, &mut sink);
        let closed = sink.shutdown(Shutdown::Both);
        copied.and(closed)
    });
    io::copy(&mut &socket, &mut output).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn lines_are_carried_both_ways_until_the_input_ends() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"announce\n").unwrap();
        let peer = thread::spawn(move || {
            let mut received = String::new();
            far.read_to_string(&mut received).unwrap();
            received
        });
        let mut output = Vec::new();
        carry(near, io::Cursor::new(b"done\n"), &mut output).unwrap();
        assert_eq!(peer.join().unwrap(), "done\n");
    }

    #[test]
    fn it_ends_with_the_socket() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"announce\n").unwrap();
        drop(far);
        let (input, _open) = io::pipe().unwrap();
        let mut output = Vec::new();
        carry(near, input, &mut output).unwrap();
        assert_eq!(output, b"announce\n");
    }
}
