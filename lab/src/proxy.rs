//! A TCP relay on loopback that can be cut: at once, after a number of bytes, or by silence.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Connections that one relay carries at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 128;
/// Bytes that one direction of a connection holds.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long the server behind may take to accept.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// No limit of bytes is set.
const UNLIMITED: u64 = u64::MAX;

/// What a relay does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// Connections end; new ones are accepted and closed at once.
    Cut,
    /// Connections stay, and nothing passes: what a lost route looks like.
    Silent,
}

/// The thread on which all relays of a lab run, so that a busy caller does not look like a slow network.
#[derive(Debug)]
pub(crate) struct Network {
    handle: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    pub(crate) fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (report, started) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("lab-network".to_owned())
            .spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => {
                        let _starter_gone = report.send(Ok(runtime.handle().clone()));
                        runtime.block_on(stopped.cancelled());
                    }
                    Err(error) => {
                        let _starter_gone = report.send(Err(error));
                    }
                }
            })?;
        let handle = started.recv().map_err(io::Error::other)??;
        Ok(Self {
            handle,
            stop,
            thread: Some(thread),
        })
    }

    /// A relay to a port of this machine. It ends with the network.
    pub(crate) fn relay_to(&self, target_port: u16) -> io::Result<Proxy> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            target_port: AtomicU16::new(target_port),
            line: watch::Sender::new(Line::Open),
            allowance_bytes: AtomicU64::new(UNLIMITED),
            carried_bytes: AtomicU64::new(0),
        });
        let stop = self.stop.child_token();
        self.handle.spawn(accept(listener, Arc::clone(&shared), stop.clone()));
        Ok(Proxy { port, shared, stop })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It has nothing to return, and a panic there was reported when it happened.
            let _panicked = thread.join();
        }
    }
}

#[derive(Debug)]
struct Shared {
    /// Of the server that the next connection is led to.
    target_port: AtomicU16,
    line: watch::Sender<Line>,
    /// Bytes from the server that may still pass.
    allowance_bytes: AtomicU64,
    carried_bytes: AtomicU64,
}

/// A relay on 127.0.0.1 between clients and one server of the lab.
///
/// It keeps its port while cut. Dropping it closes the port and its connections, and so does the end of its lab.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Proxy {
    /// The port to connect to instead of the server's own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections now, and every new one as soon as it is accepted, until [`restore`](Self::restore).
    pub fn cut(&self) {
        self.shared.line.send_replace(Line::Cut);
    }

    /// Lets connections stand but passes nothing on, as a lost route does, until [`restore`](Self::restore).
    pub fn silence(&self) {
        self.shared.line.send_replace(Line::Silent);
    }

    /// Passes exactly `bytes` more bytes from the server to clients, over all connections together, then cuts.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.allowance_bytes.store(bytes, Ordering::SeqCst);
    }

    /// Opens the line again. Connections that were cut stay ended; those that were silenced go on.
    pub fn restore(&self) {
        self.shared.allowance_bytes.store(UNLIMITED, Ordering::SeqCst);
        self.shared.line.send_replace(Line::Open);
    }

    /// Leads every new connection to another port of this machine, as an endpoint does after a failover. Those that stand stay.
    pub fn lead_to(&self, target_port: u16) {
        self.shared.target_port.store(target_port, Ordering::SeqCst);
    }

    /// Whether the line is cut, by [`cut`](Self::cut) or because [`cut_after`](Self::cut_after) has been reached.
    pub fn is_cut(&self) -> bool {
        *self.shared.line.borrow() == Line::Cut
    }

    /// Bytes that went from the server to clients so far.
    pub fn carried_bytes(&self) -> u64 {
        self.shared.carried_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "a relay of the lab could not listen");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (Ok(place), accepted) = (tokio::select! {
            () = stop.cancelled() => return,
            next = next => next,
        }) else {
            return;
        };
        match accepted {
            Ok((client, _)) => {
                let shared = Arc::clone(&shared);
                let stop = stop.clone();
                tokio::spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = carry(client, &shared) => {}
                    }
                });
            }
            Err(error) => tracing::debug!(%error, "a relay of the lab could not accept"),
        }
    }
}

/// One connection, until either side ends it or the line is cut.
async fn carry(client: TcpStream, shared: &Shared) {
    let mut line = shared.line.subscribe();
    let cut = async move {
        // The sender lives in `shared`, as long as this future.
        let _sender_gone = line.wait_for(|line| *line == Line::Cut).await;
    };
    let relay = async {
        let target = (Ipv4Addr::LOCALHOST, shared.target_port.load(Ordering::SeqCst));
        let server = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(target)).await;
        let Ok(Ok(server)) = server else { return };
        // Acknowledgements that wait for company would add to the lag that is measured.
        let _kept_slow = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = pass_up(from_client, to_server, shared) => {}
            () = pass_down(from_server, to_client, shared) => {}
        }
    };
    tokio::select! {
        biased;
        () = cut => {}
        () = relay => {}
    }
}

async fn pass_up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        unless_silent(shared).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn pass_down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        unless_silent(shared).await;
        let allowed = take_allowance(&shared.allowance_bytes, count);
        // Counted first: who has received bytes must find them in the count.
        let carried = u64::try_from(allowed).unwrap_or(u64::MAX);
        shared.carried_bytes.fetch_add(carried, Ordering::SeqCst);
        if to.write_all(&buffer[..allowed]).await.is_err() {
            return;
        }
        if allowed < count {
            shared.line.send_replace(Line::Cut);
            return;
        }
    }
}

/// Waits while the line is silent.
async fn unless_silent(shared: &Shared) {
    let mut line = shared.line.subscribe();
    let _sender_gone = line.wait_for(|line| *line != Line::Silent).await;
}

/// How many of `count` bytes may pass; they are taken off the allowance.
fn take_allowance(allowance_bytes: &AtomicU64, count: usize) -> usize {
    let wanted = u64::try_from(count).unwrap_or(u64::MAX);
    let left = |allowance: u64| match allowance {
        UNLIMITED => UNLIMITED,
        limited => limited.saturating_sub(wanted),
    };
    let before = allowance_bytes
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |allowance| Some(left(allowance)))
        .unwrap_or_default();
    usize::try_from(before).map_or(count, |before| before.min(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_used_up_once() {
        let allowance = AtomicU64::new(10);
        assert_eq!(take_allowance(&allowance, 6), 6);
        assert_eq!(take_allowance(&allowance, 6), 4);
        assert_eq!(take_allowance(&allowance, 6), 0);
        let unlimited = AtomicU64::new(UNLIMITED);
        assert_eq!(take_allowance(&unlimited, 6), 6);
        assert_eq!(unlimited.load(Ordering::SeqCst), UNLIMITED);
    }

    /// A server that sends `total` bytes to whoever connects, then waits for the end of the connection.
    async fn sender(total: usize) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _cut = stream.write_all(&vec![7; total]).await;
                    let _ended = stream.read(&mut [0]).await;
                });
            }
        });
        port
    }

    async fn received(port: u16, wanted: usize) -> usize {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let mut buffer = vec![0; wanted];
        let mut count = 0;
        while count < wanted {
            match tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer[count..])).await {
                Ok(Ok(more @ 1..)) => count += more,
                _ => break,
            }
        }
        count
    }

    #[tokio::test]
    async fn a_line_is_cut_after_exactly_the_bytes_asked_for_and_can_be_restored() {
        let network = Network::start().unwrap();
        let proxy = network.relay_to(sender(100_000).await).unwrap();
        assert_eq!(received(proxy.port(), 100_000).await, 100_000);
        proxy.cut_after(40_001);
        assert_eq!(received(proxy.port(), 100_000).await, 40_001);
        assert!(proxy.is_cut());
        assert_eq!(received(proxy.port(), 1).await, 0);
        proxy.restore();
        assert_eq!(received(proxy.port(), 100_000).await, 100_000);
        assert_eq!(proxy.carried_bytes(), 240_001);
    }

    #[tokio::test]
    async fn a_silent_line_keeps_its_connections_and_goes_on() {
        let network = Network::start().unwrap();
        let proxy = network.relay_to(sender(10).await).unwrap();
        proxy.silence();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap();
        let mut buffer = [0; 10];
        let early = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut buffer)).await;
        assert!(early.is_err(), "nothing passes a silent line");
        proxy.restore();
        let later = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut buffer)).await;
        assert_eq!(later.unwrap().unwrap(), 10);
    }

    #[tokio::test]
    async fn a_cut_ends_connections_that_stand() {
        let network = Network::start().unwrap();
        let proxy = network.relay_to(sender(1).await).unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        proxy.cut();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0])).await;
        assert!(matches!(end.unwrap(), Ok(0) | Err(_)));
    }
}
