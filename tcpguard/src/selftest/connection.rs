//! One connection on the stage: handshake, transfer, and the reports of both ends.
#![expect(unsafe_code, reason = "TCP_INFO has no safe form in rustix")]

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tcpguard_engine::Family;
use tcpguard_host::linux::{self, Sysctls};

use super::PATIENCE;
use super::stage::{self, Stage};
/// Bytes that each end sends.
const TRANSFER: usize = 100_000;

// Bits of `tcpi_options`, include/uapi/linux/tcp.h.
const TCPI_OPT_TIMESTAMPS: u8 = 1;
const TCPI_OPT_SACK: u8 = 2;
const TCPI_OPT_WSCALE: u8 = 4;
const TCPI_OPT_ECN: u8 = 8;

/// Reason why a connection did not come about, in words.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

impl From<linux::Error> for Failure {
    fn from(error: linux::Error) -> Self {
        Self(error.to_string())
    }
}

/// Properties of a connection, as the kernel reports them at one end (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct End {
    timestamps: bool,
    sack: bool,
    ecn: bool,
    /// Scale of the windows that this end sends, in bits, and of those that it receives; `None` without window scaling.
    wscale: Option<(u8, u8)>,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wscale {
            Some((own, peer)) => write!(f, "window scales {own} and {peer}")?,
            None => f.write_str("no window scales")?,
        }
        for (has, name) in [(self.sack, "SACK"), (self.timestamps, "timestamps"), (self.ecn, "ECN")]
        {
            if has {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

/// The service of a family.
pub(super) fn listen(family: Family) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(stage::service(family))?;
    set_socket_timeout(&listener, Timeout::Recv, Some(PATIENCE))?;
    Ok(listener)
}

/// Connects a client, with timestamps or without, and sends data both ways.
pub(super) fn connect(
    stage: &Stage,
    listener: &TcpListener,
    family: Family,
    timestamps: bool,
) -> Result<(), Failure> {
    let stamps = if timestamps { "1" } else { "0" };
    let client = stage.client(|| {
        Sysctls::default().write("net.ipv4.tcp_timestamps", stamps)?;
        let connected = TcpStream::connect_timeout(&stage::service(family), PATIENCE);
        connected.map_err(|error| Failure(format!("the handshake failed: {}", words(&error))))
    })?;
    let (server, _) = listener.accept().map_err(|error| {
        Failure(format!("the server got no connection from the handshake: {}", words(&error)))
    })?;
    transfer(&client, &server).map_err(|error| {
        let why = words(&error);
        Failure(format!("the handshake completed, but the transfer failed: {why}"))
    })?;
    let end = |socket: &TcpStream| {
        end(socket).map_err(|error| Failure(format!("its state cannot be read: {error}")))
    };
    agree(&end(&client)?, &end(&server)?)
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("nothing came within {}ms", PATIENCE.as_millis())
        }
        io::ErrorKind::ConnectionReset => "it was reset".to_owned(),
        _ => error.to_string(),
    }
}

/// Data from the client to the server, and then back.
fn transfer(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        thread::scope(|scope| {
            let sending = scope.spawn(|| send(from));
            receive(to)?;
            sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
    }
    Ok(())
}

fn byte(at: usize) -> u8 {
    // 251 is prime: no two segments are alike.
    (at % 251) as u8
}

fn send(mut socket: &TcpStream) -> io::Result<()> {
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.write_all(&(0..TRANSFER).map(byte).collect::<Vec<u8>>())
}

fn receive(mut socket: &TcpStream) -> io::Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut received = vec![0; TRANSFER];
    socket.read_exact(&mut received)?;
    match received.iter().enumerate().all(|(at, found)| *found == byte(at)) {
        true => Ok(()),
        false => Err(io::Error::other("data was damaged")),
    }
}

/// Tests that the two ends mean the same: options that only one of them uses, or windows that it
/// scales otherwise than its peer thinks, break a connection sooner or later.
fn agree(client: &End, server: &End) -> Result<(), Failure> {
    let peers = End { wscale: server.wscale.map(|(own, peer)| (peer, own)), ..*server };
    if *client == peers {
        return Ok(());
    }
    Err(Failure(format!("the ends disagree: the client has {client}, the server {server}")))
}

/// The kernel's report about a connected socket.
fn end(socket: &TcpStream) -> io::Result<End> {
    // SAFETY: integers; all-zero is valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: both outlive the call, and the kernel writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let has = |option: u8| info.tcpi_options & option != 0;
    // The upper half is the scale of this end, the lower half that of the peer.
    let scales = info.tcpi_snd_rcv_wscale;
    Ok(End {
        timestamps: has(TCPI_OPT_TIMESTAMPS),
        sack: has(TCPI_OPT_SACK),
        ecn: has(TCPI_OPT_ECN),
        wscale: has(TCPI_OPT_WSCALE).then_some((scales >> 4, scales & 0x0f)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_agree_when_each_means_what_the_other_said() {
        let client = End { timestamps: true, sack: true, ecn: false, wscale: Some((7, 10)) };
        let server = End { wscale: Some((10, 7)), ..client };
        assert!(agree(&client, &server).is_ok());
        let change: [fn(&mut End); 5] = [
            |server| server.timestamps = false,
            |server| server.sack = false,
            |server| server.ecn = true,
            |server| server.wscale = Some((7, 10)),
            |server| server.wscale = None,
        ];
        for change in change {
            let mut server = server;
            change(&mut server);
            let Failure(words) = agree(&client, &server).expect_err("they disagree");
            let begins =
                "the ends disagree: the client has window scales 7 and 10, SACK, timestamps,";
            assert!(words.starts_with(begins), "{words}");
        }
    }
}
