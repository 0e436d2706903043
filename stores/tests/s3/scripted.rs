//! An HTTP server that answers each request as a test says.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status with headers, each ended by a line break, and a body.
    Http(u16, &'static str, String),
    /// The request is read, and nothing comes back.
    Silence,
    /// The request is read, and the connection ends.
    Cut,
}

/// An error as S3 words it.
pub(crate) fn error(status: u16, code: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>scripted</Message></Error>");
    Answer::Http(status, "", body)
}

pub(crate) struct Scripted {
    port: u16,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Answers by method and path.
    pub(crate) async fn start(script: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(script);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let script = Arc::clone(&script);
                tokio::spawn(async move { serve(stream, script.as_ref()).await });
            }
        });
        Self { port, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request; the connection ends after it.
async fn serve(stream: TcpStream, script: &(impl Fn(&str, &str) -> Answer + Send + Sync)) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut body_bytes = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            body_bytes = value.parse().ok()?;
        }
    }
    let mut body = vec![0; body_bytes];
    stream.read_exact(&mut body).await.ok()?;
    match script(&method, &path) {
        Answer::Cut => {}
        Answer::Silence => std::future::pending::<()>().await,
        Answer::Http(status, headers, body) => {
            let sent = if method == "HEAD" { "" } else { body.as_str() };
            let answer = format!(
                "HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{sent}",
                sent.len()
            );
            stream.write_all(answer.as_bytes()).await.ok()?;
            stream.shutdown().await.ok()?;
        }
    }
    Some(())
}
