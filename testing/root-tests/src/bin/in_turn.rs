//! `in_turn DIRECTORY BEHIND`: control and status socket in `DIRECTORY`, in front of an agent's in
//! `BEHIND`, as they would be without limits: for everybody, one connection after the other at each,
//! for as long as it likes, with requests as long as it likes.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use tcpguard::control::{CONTROL_SOCKET, STATUS_SOCKET};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(directory), Some(behind)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: in_turn DIRECTORY BEHIND");
        std::process::exit(2);
    };
    fs::create_dir_all(&directory)?;
    let bound = [STATUS_SOCKET, CONTROL_SOCKET].map(|name| -> Result<_> {
        let socket = directory.join(name);
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
        Ok((listener, behind.join(name)))
    });
    thread::scope(|scope| {
        for bound in bound {
            let (listener, behind) = bound?;
            scope.spawn(move || {
                for client in listener.incoming().flatten() {
                    // However it ended, the next one's turn has come.
                    let _ = serve(&client, &behind);
                }
            });
        }
        Ok(())
    })
}

/// Hands requests on until the client has no more.
fn serve(client: &UnixStream, behind: &Path) -> Result<()> {
    let mut requests = BufReader::new(client);
    let mut message = Vec::new();
    while requests.read_until(0, &mut message)? > 0 && message.ends_with(&[0]) {
        let mut agent = UnixStream::connect(behind)?;
        agent.write_all(&message)?;
        message.clear();
        BufReader::new(agent).read_until(0, &mut message)?;
        (&mut &*client).write_all(&message)?;
        message.clear();
    }
    Ok(())
}
