//! A stand-in for the agent, with the responses that a test gives it, for the real binary to talk
//! to.

use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use tcpguard::control::{Incoming, Request, Response, Server};
use tokio::sync::{mpsc, oneshot};

/// Listens on the control socket of a directory until it is dropped.
pub struct StandIn {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    /// Answers every request by `answer`.
    pub fn in_dir(
        dir: &Path,
        mut answer: impl FnMut(&Request) -> Response + Send + 'static,
    ) -> Self {
        let dir = dir.to_owned();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let server = Server::bind(&dir, None).unwrap();
                ready.send(()).unwrap();
                let (sender, mut requests) = mpsc::channel::<Incoming>(4);
                let answers = async {
                    while let Some(incoming) = requests.recv().await {
                        let response = answer(&incoming.request);
                        // A client that has gone needs no answer.
                        let _ = incoming.reply.send(response);
                    }
                };
                tokio::select! {
                    () = server.serve(sender.clone(), sender) => {}
                    () = answers => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.stop.take());
        // One that died has said why already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
