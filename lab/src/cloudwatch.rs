//! A stand-in for CloudWatch: answers `GetMetricData` as a test says, in the protocol of AWS's client (RPC v2 over CBOR).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use minicbor::data::{IanaTag, Type};
use minicbor::{Decoder, Encoder};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Requests that are remembered; later ones are answered and forgotten.
const REQUESTS_MAX: usize = 1_000;
/// A request that is longer is none.
const BODY_BYTES_MAX: usize = 1 << 20;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRequest {
    /// The region that it was signed for.
    pub region: String,
    /// The first instant that is asked about, seconds since 1970.
    pub start_s: i64,
    /// The first instant that no longer is.
    pub end_s: i64,
    /// What is asked for.
    pub queries: Vec<MetricQuery>,
}

/// One metric of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricQuery {
    /// What the answer is called.
    pub id: String,
    /// e.g. `AWS/DynamoDB`.
    pub namespace: String,
    /// e.g. `ReplicationLatency`.
    pub name: String,
    /// `Maximum`, `Sum`.
    pub statistic: String,
    /// Seconds of one data point.
    pub period_s: i64,
    /// By name.
    pub dimensions: BTreeMap<String, String>,
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub enum MetricAnswer {
    /// For each metric its data points: (seconds since 1970, value). Empty: nothing was published.
    Points(fn(&MetricRequest, &MetricQuery) -> Vec<(i64, f64)>),
    /// As `Points`, of which nothing is told: the status of each metric, and why.
    Withheld(&'static str, &'static str),
    /// HTTP status, code and message of an error.
    Error(u16, &'static str, &'static str),
    /// The request is read, and the connection stays silent.
    Silence,
}

/// The stand-in. It ends with its handle.
#[derive(Debug)]
pub struct CloudWatch {
    port: u16,
    plan: Arc<Mutex<Plan>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Plan {
    answer: MetricAnswer,
    requests: Vec<MetricRequest>,
}

impl Drop for CloudWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl CloudWatch {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(answer: MetricAnswer) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let requests = Vec::new();
        let plan = Arc::new(Mutex::new(Plan { answer, requests }));
        let task = tokio::spawn({
            let plan = Arc::clone(&plan);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&plan)));
                }
            }
        });
        Ok(Self { port, plan, task })
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: MetricAnswer) {
        plan(&self.plan).answer = answer;
    }

    /// What was asked.
    pub fn requests(&self) -> Vec<MetricRequest> {
        plan(&self.plan).requests.clone()
    }
}

fn plan(shared: &Mutex<Plan>) -> std::sync::MutexGuard<'_, Plan> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection; it ends at the first thing that is no request for metrics.
async fn serve(stream: TcpStream, shared: Arc<Mutex<Plan>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let asked = request(&mut stream).await?;
        let answer = {
            let mut plan = plan(&shared);
            if plan.requests.len() < REQUESTS_MAX {
                plan.requests.push(asked.clone());
            }
            plan.answer.clone()
        };
        let (status, more, body) = match answer {
            MetricAnswer::Silence => std::future::pending().await,
            MetricAnswer::Error(status, code, message) => {
                let body = encoded(|to| {
                    to.map(2)?.str("__type")?.str(code)?.str("message")?.str(message)?;
                    Ok(())
                })?;
                (status, format!("x-amzn-query-error: {code};Sender\r\n"), body)
            }
            MetricAnswer::Points(of) => {
                let results = asked.queries.iter().map(|query| (query, of(&asked, query)));
                (200, String::new(), results_body(results.collect(), None)?)
            }
            MetricAnswer::Withheld(status, why) => {
                let results = asked.queries.iter().map(|query| (query, Vec::new()));
                (
                    200,
                    String::new(),
                    results_body(results.collect(), Some((status, why)))?,
                )
            }
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-type: application/cbor\r\n{more}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&body).await.ok()?;
    }
}

/// A metric and its data points.
type Figures<'q> = (&'q MetricQuery, Vec<(i64, f64)>);

fn results_body(results: Vec<Figures<'_>>, withheld: Option<(&str, &str)>) -> Option<Vec<u8>> {
    encoded(|to| {
        to.map(1)?.str("MetricDataResults")?;
        to.array(u64::try_from(results.len()).unwrap_or(u64::MAX))?;
        for (query, points) in &results {
            let count = u64::try_from(points.len()).unwrap_or(u64::MAX);
            to.map(if withheld.is_some() { 5 } else { 4 })?;
            to.str("Id")?.str(&query.id)?;
            to.str("Timestamps")?.array(count)?;
            for (at, _) in points {
                to.tag(IanaTag::Timestamp)?.i64(*at)?;
            }
            to.str("Values")?.array(count)?;
            for (_, value) in points {
                to.f64(*value)?;
            }
            let (status, why) = withheld.unwrap_or(("Complete", ""));
            to.str("StatusCode")?.str(status)?;
            if withheld.is_some() {
                to.str("Messages")?.array(1)?.map(2)?;
                to.str("Code")?.str(status)?.str("Value")?.str(why)?;
            }
        }
        Ok(())
    })
}

type Encoded = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn encoded(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Encoded) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    write(&mut Encoder::new(&mut body)).ok()?;
    Some(body)
}

/// The next request; `None`: the connection ended, or something else was said.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<MetricRequest> {
    let (mut length, mut region, mut is_first, mut is_ours) = (0, String::new(), true, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if std::mem::take(&mut is_first) {
            is_ours = line.contains("/operation/GetMetricData ");
        }
        if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "authorization" => region = value.split('/').nth(2).unwrap_or_default().to_owned(),
                _ => {}
            }
        }
    }
    if !is_ours || length > BODY_BYTES_MAX {
        return None;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body = value(&mut Decoder::new(&body))?;
    let queries = body["MetricDataQueries"].as_array()?;
    Some(MetricRequest {
        region,
        start_s: body["StartTime"].as_i64()?,
        end_s: body["EndTime"].as_i64()?,
        queries: queries.iter().filter_map(query).collect(),
    })
}

fn query(said: &Value) -> Option<MetricQuery> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (stat, metric) = (&said["MetricStat"], &said["MetricStat"]["Metric"]);
    let dimensions = metric["Dimensions"].as_array()?.iter();
    Some(MetricQuery {
        id: text(&said["Id"])?,
        namespace: text(&metric["Namespace"])?,
        name: text(&metric["MetricName"])?,
        statistic: text(&stat["Stat"])?,
        period_s: stat["Period"].as_i64()?,
        dimensions: dimensions
            .filter_map(|one| Some((text(&one["Name"])?, text(&one["Value"])?)))
            .collect(),
    })
}

/// What of CBOR the client writes, as JSON; an instant becomes its whole seconds.
fn value(from: &mut Decoder<'_>) -> Option<Value> {
    match from.datatype().ok()? {
        Type::Map | Type::MapIndef => {
            let mut left = from.map().ok()?;
            let mut map = serde_json::Map::new();
            while goes_on(from, &mut left)? {
                let key = from.str().ok()?.to_owned();
                map.insert(key, value(from)?);
            }
            Some(Value::Object(map))
        }
        Type::Array | Type::ArrayIndef => {
            let mut left = from.array().ok()?;
            let mut list = Vec::new();
            while goes_on(from, &mut left)? {
                list.push(value(from)?);
            }
            Some(Value::Array(list))
        }
        Type::Tag => {
            from.tag().ok()?;
            value(from)
        }
        Type::String => Some(from.str().ok()?.into()),
        Type::Bool => Some(from.bool().ok()?.into()),
        Type::F16 | Type::F32 | Type::F64 => {
            let seconds = std::time::Duration::try_from_secs_f64(from.f64().ok()?).ok()?;
            Some(seconds.as_secs().into())
        }
        Type::Null => from.null().ok().map(|()| Value::Null),
        _ => Some(from.i64().ok()?.into()),
    }
}

/// Whether another item follows in a collection of known or open length.
fn goes_on(from: &mut Decoder<'_>, left: &mut Option<u64>) -> Option<bool> {
    match left {
        Some(0) => Some(false),
        Some(more) => {
            *more -= 1;
            Some(true)
        }
        None if from.datatype().ok()? == Type::Break => {
            from.skip().ok()?;
            Some(false)
        }
        None => Some(true),
    }
}
