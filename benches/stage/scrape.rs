//! `/metrics` of a running probe.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long the endpoint may take to be there, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// An address that nobody listens on now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    listener.local_addr().context("find a free port")
}

/// One series: its labels as they are written, and its value.
pub(crate) type Series = (String, f64);

/// All series of one name, as of now.
pub(crate) async fn scrape(address: SocketAddr, name: &str) -> anyhow::Result<Vec<Series>> {
    let text = tokio::time::timeout(PATIENCE, get(address))
        .await
        .context("scrape the probe")??;
    let series = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        Some((labels.to_owned(), value.parse().ok()?))
    };
    Ok(text.lines().filter_map(series).collect())
}

/// The value of a label of a series.
pub(crate) fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let of = |pair: &'a str| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"');
    labels.split(',').find_map(of)
}

async fn get(address: SocketAddr) -> anyhow::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(error) if Instant::now() >= deadline => return Err(error).context("connect to the probe"),
            Err(_) => tokio::time::sleep(TRY_EVERY).await,
        }
    };
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    anyhow::ensure!(
        answer.starts_with("HTTP/1.1 200"),
        "the probe answers {:?}",
        answer.lines().next()
    );
    Ok(answer)
}
