//! A server that answers as it is told: what real ones do too rarely to test with.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const DESCRIBED: &str = r#"{"Table":{"TableName":"profiles","TableStatus":"ACTIVE","TableArn":"arn:aws:dynamodb:lab:1:table/profiles",
"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}}"#;

/// One answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Status and body.
    Json(u16, String),
    /// The request is read, and the connection stays silent.
    Silence,
    /// The request is read, and the connection ends.
    HangUp,
}

#[derive(Debug, Default)]
struct Plan {
    next: BTreeMap<String, VecDeque<Answer>>,
    requests: Vec<(String, String)>,
}

/// The server. It ends with its handle.
#[derive(Debug)]
pub(crate) struct Scripted {
    port: u16,
    plan: Arc<Mutex<Plan>>,
    task: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let task = tokio::spawn({
            let plan = Arc::clone(&plan);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, Arc::clone(&plan)));
                }
            }
        });
        Self { port, plan, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next request of `operation` gets this answer.
    pub(crate) fn next(&self, operation: &str, answer: Answer) {
        let mut plan = self.plan.lock().unwrap();
        plan.next.entry(operation.to_owned()).or_default().push_back(answer);
    }

    /// An error as DynamoDB words it.
    pub(crate) fn fail(&self, operation: &str, status: u16, code: &str, message: &str) {
        let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"{message}"}}"#);
        self.next(operation, Answer::Json(status, body));
    }

    /// How often `operation` was asked for.
    pub(crate) fn requests(&self, operation: &str) -> Vec<String> {
        let plan = self.plan.lock().unwrap();
        let of = plan.requests.iter().filter(|(name, _)| name == operation);
        of.map(|(_, body)| body.clone()).collect()
    }
}

async fn serve(stream: TcpStream, plan: Arc<Mutex<Plan>>) {
    let mut stream = BufReader::new(stream);
    while let Some((operation, body)) = request(&mut stream).await {
        let answer = {
            let mut plan = plan.lock().unwrap();
            plan.requests.push((operation.clone(), body));
            plan.next.get_mut(&operation).and_then(VecDeque::pop_front)
        };
        let (status, body) = match answer {
            Some(Answer::Json(status, body)) => (status, body),
            Some(Answer::Silence) => {
                // Until the client gives up.
                let _gone = stream.read_u8().await;
                return;
            }
            Some(Answer::HangUp) => return,
            None => (200, usual(&operation).to_owned()),
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

fn usual(operation: &str) -> &'static str {
    match operation {
        "DescribeTable" => DESCRIBED,
        _ => "{}",
    }
}

/// The operation and the body of the next request; `None`: the connection ended.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut operation, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "x-amz-target" => operation = value.rsplit('.').next()?.to_owned(),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((operation, String::from_utf8(body).ok()?))
}
