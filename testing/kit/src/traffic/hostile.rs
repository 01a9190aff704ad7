//! Users of the host that try to keep its administrator from the agent.

use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use ipnet::IpNet;
use rustix::fs::Uid;
use rustix::thread::set_thread_res_uid;

use tcpguard::control::Request;
use tcpguard::control::proto::{Call, Change, VERSION};
use tcpguard_engine::{ClientsWithin, Force, Ports};

use crate::net::netns::Netns;
use crate::traffic::random::Random;

/// User IDs of the hostile clients.
const USERS: [u32; 6] = [60_001, 60_002, 60_003, 60_004, 60_005, 60_006];
/// Mean pause before a client connects again.
const PAUSE: Duration = Duration::from_millis(200);
/// Time for which a client that was let in stays, unless it is put out before.
const STAY: Duration = Duration::from_secs(3);

/// Behaviour of a hostile client on its connection.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Idle,
    /// A byte of a request a second.
    Trickle,
    /// A request that does not end.
    Endless,
    /// Bytes that are no request.
    Garbage,
    /// The longest question there is, again and again.
    Ask,
    /// Changes that are only to be tried.
    Try,
}

const MANNERS: [Manner; 6] =
    [Manner::Idle, Manner::Trickle, Manner::Endless, Manner::Garbage, Manner::Ask, Manner::Try];

/// Many hostile clients at once, until it is dropped.
pub struct Crowd {
    over: Arc<AtomicBool>,
    came: Arc<Came>,
    keeper: Option<JoinHandle<Result<()>>>,
}

/// Counts of the attempts of all clients to connect.
#[derive(Debug, Default)]
struct Came {
    connected: AtomicU64,
    /// Attempts that the system refused: the client may not even connect.
    kept_out: AtomicU64,
}

impl Crowd {
    /// Starts `count` clients of six users, which connect over and over, each time to one of the `sockets`.
    pub fn gather(host: &Netns, sockets: &[PathBuf], count: usize, seed: u64) -> Result<Self> {
        let (over, came) = <(Arc<AtomicBool>, Arc<Came>)>::default();
        let (ended, all, sockets) = (over.clone(), came.clone(), sockets.to_owned());
        let keeper = host.spawn("crowd", move || {
            let clients: Vec<_> = (0..count)
                .map(|number| {
                    let client = Client {
                        user: USERS[number % USERS.len()],
                        manner: MANNERS[number / USERS.len() % MANNERS.len()],
                        sockets: sockets.clone(),
                        random: Random::new(seed.wrapping_add(number as u64)),
                    };
                    let (over, came) = (ended.clone(), all.clone());
                    // A small stack: there are a thousand of them.
                    thread::Builder::new()
                        .stack_size(128 << 10)
                        .spawn(move || client.run(&over, &came))
                })
                .collect::<std::io::Result<_>>()?;
            for client in clients {
                client.join().map_err(|_| anyhow!("a hostile client has panicked"))??;
            }
            Ok(())
        })?;
        Ok(Self { over, came, keeper: Some(keeper) })
    }

    /// Returns the number of connections that the clients have made so far.
    pub fn connections(&self) -> u64 {
        self.came.connected.load(Ordering::Relaxed)
    }

    /// Returns the number of attempts so far in which the system did not let a client even connect.
    pub fn kept_out(&self) -> u64 {
        self.came.kept_out.load(Ordering::Relaxed)
    }

    pub fn leave(mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let keeper = self.keeper.take().ok_or_else(|| anyhow!("they have gone already"))?;
        keeper.join().map_err(|_| anyhow!("their keeper has panicked"))?
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

struct Client {
    user: u32,
    manner: Manner,
    sockets: Vec<PathBuf>,
    random: Random,
}

impl Client {
    fn run(mut self, over: &AtomicBool, came: &Came) -> Result<()> {
        let user = Uid::from_raw(self.user);
        set_thread_res_uid(user, user, user)?;
        while !over.load(Ordering::Relaxed) {
            let which = self.random.between(0, self.sockets.len() as u64 - 1) as usize;
            match UnixStream::connect(&self.sockets[which]) {
                Ok(stream) => {
                    came.connected.fetch_add(1, Ordering::Relaxed);
                    // Whatever ends the connection, the next one comes.
                    let _ = self.annoy(stream, over);
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    came.kept_out.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {}
            }
            thread::sleep(PAUSE.mul_f64(0.5 + self.random.share()));
        }
        Ok(())
    }

    fn annoy(&mut self, mut stream: UnixStream, over: &AtomicBool) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PAUSE))?;
        stream.set_write_timeout(Some(PAUSE))?;
        let begun = Instant::now();
        while begun.elapsed() < STAY && !over.load(Ordering::Relaxed) {
            match self.manner {
                Manner::Idle => {}
                Manner::Trickle => {
                    stream.write_all(b"{")?;
                    thread::sleep(Duration::from_secs(1));
                }
                Manner::Endless => stream.write_all(&[b' '; 4096])?,
                Manner::Garbage => {
                    let bytes: Vec<u8> =
                        (0..64).map(|_| self.random.between(0, 255) as u8).collect();
                    stream.write_all(&bytes)?;
                }
                Manner::Ask => stream.write_all(&call(Request::Status)?)?,
                Manner::Try => stream.write_all(&call(tried())?)?,
            }
            // The response, as far as it has come; an end of the connection is an error.
            match stream.read(&mut [0; 16 << 10]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn tried() -> Request {
    let change = Change::Block {
        net: IpNet::from(IpAddr::from([198, 51, 100, 7])),
        ports: Ports::EVERY,
        lifetime: Duration::from_secs(60),
        reason: "tried".to_owned(),
        force: Force::No,
        clients: ClientsWithin::default(),
    };
    Request::Change { change, dry_run: true }
}

fn call(request: Request) -> std::io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(&Call { version: VERSION, request })?;
    bytes.push(0);
    Ok(bytes)
}
