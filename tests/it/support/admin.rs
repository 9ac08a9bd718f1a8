//! The admin endpoints of a running rdsgate, asked over a socket by hand, and its metrics as Prometheus reads them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use rdsgate::admin::model::Status;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    clients,
    driver::within,
    gate::{Gate, PATIENCE},
};

/// Where it is, as its line on stderr says.
#[derive(Debug, Clone)]
pub(crate) enum Admin {
    Tcp(u16),
    Unix(PathBuf),
}

/// An answer of the HTTP server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Admin {
    /// The address that `gate` has announced.
    pub(crate) fn of(gate: &Gate) -> Self {
        let log = gate.log();
        let address = log.lines().find_map(|line| line.strip_prefix("[admin] listening on "));
        let address = address.unwrap_or_else(|| panic!("no admin address: {log}"));
        if let Some(path) = address.strip_prefix("unix:") {
            return Self::Unix(path.into());
        }
        if let Some(port) = address.strip_prefix("0.0.0.0:") {
            let port = port.strip_suffix(" for everyone: /healthz, /readyz and /metrics").expect("what it answers");
            return Self::Tcp(port.parse().expect("a port"));
        }
        let (address, page) = address.split_once(", page at ").expect("an address that browsers can open");
        assert_eq!(page, format!("http://{address}/"));
        Self::Tcp(address.strip_prefix("localhost:").and_then(|port| port.parse().ok()).expect("a port"))
    }

    /// The reply to a request; an error if nothing listens.
    pub(crate) async fn ask(&self, request: &str) -> std::io::Result<Answer> {
        let exchange = async {
            match self {
                Self::Tcp(port) => exchange(TcpStream::connect(("127.0.0.1", *port)).await?, request).await,
                Self::Unix(path) => exchange(UnixStream::connect(path).await?, request).await,
            }
        };
        within(request, exchange).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let host = if matches!(self, Self::Tcp(_)) { "localhost" } else { "rdsgate" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.ask(&request).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) async fn status(&self) -> Status {
        let answer = self.get("/status").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
    }

    /// The status, as soon as it is as `condition` wants it.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        let started = Instant::now();
        loop {
            let status = self.status().await;
            if condition(&status) {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {status:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The metrics, judged and read by Prometheus' own parser.
    pub(crate) async fn scrape(&self) -> Metrics {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", answer.head);
        let text = answer.body.clone();
        let parsed = spawn_blocking(move || {
            let mut parser = clients::python("openmetrics.py");
            let mut parser = parser.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python is installed");
            parser.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
            parser.wait_with_output().expect("it runs")
        });
        let parsed = parsed.await.expect("it does not panic");
        assert!(parsed.status.success(), "{}", answer.body);
        let Read { families, samples } = serde_json::from_slice(&parsed.stdout).expect("it prints JSON");
        Metrics { families, samples, text: answer.body }
    }

    /// Scrapes until no connection is open; the caller sets the deadline.
    pub(crate) async fn until_none_is_open(&self) -> Metrics {
        loop {
            let metrics = self.scrape().await;
            if metrics.value("rdsgate_connections_open", &[]) == 0.0 {
                return metrics;
            }
        }
    }

    /// The metrics as soon as the counter or gauge has reached `least`.
    pub(crate) async fn until_metric(&self, name: &str, labels: &[(&str, &str)], least: f64) -> Metrics {
        let started = Instant::now();
        loop {
            let metrics = self.scrape().await;
            if metrics.value(name, labels) >= least {
                return metrics;
            }
            assert!(started.elapsed() < PATIENCE, "{name} {labels:?}: {}", metrics.text);
        }
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> std::io::Result<Answer> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).map_err(std::io::Error::other)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.into() })
}

#[derive(Deserialize)]
struct Read {
    families: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The result of a scrape.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The type of each family, whose name is without `_total`.
    pub(crate) families: BTreeMap<String, String>,
    samples: Vec<Sample>,
    /// As it came.
    pub(crate) text: String,
}

impl Metrics {
    /// The one sample of this name that has these labels, whatever others it has.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            let label = |name: &str| sample.labels.get(name).map(String::as_str);
            sample.name == name && labels.iter().all(|(name, value)| label(name) == Some(value))
        };
        let found: Vec<_> = self.samples.iter().filter(has).collect();
        let [sample] = found[..] else { panic!("{name} {labels:?}: {found:?}\n{}", self.text) };
        sample.value
    }

    /// The values of labels that there are.
    pub(crate) fn label_values(&self) -> BTreeSet<&str> {
        let labels = self.samples.iter().flat_map(|sample| &sample.labels);
        labels.filter(|(name, _)| *name != "le").map(|(_, value)| value.as_str()).collect()
    }
}
