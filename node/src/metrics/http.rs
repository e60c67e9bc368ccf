//! `/metrics` over HTTP, for Prometheus, where `metrics.listen` says.

use std::{net::SocketAddr, sync::Arc};

use hyper::{
    Method, StatusCode,
    header::{self, HeaderValue},
};
use serde_json::json;
use tokio::task::JoinHandle;

use super::MEDIA_TYPE;
use crate::{
    error::Error,
    http::{
        self,
        answer::{Reply, fresh, json as reply},
        server::{self, Room},
    },
    node::Node,
};

/// Connections at a time: a few scrapers.
const ROOM: Room = Room { connections: 16, per_address: 8, least: 512 };

/// A listener for scrapers, until it is dropped.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Http {
    /// Serves a node's metrics. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Kind::PortInUse`](crate::Kind) or `Network` if the address can't be listened on.
    pub async fn open(node: Node, at: SocketAddr) -> Result<Self, Error> {
        let (listener, address) = http::listen(at, "metrics.listen").await?;
        let node = Arc::new(node);
        let task = tokio::spawn(server::run(listener, None, ROOM, move |request, _| {
            let node = Arc::clone(&node);
            async move {
                match (request.uri().path(), request.method()) {
                    ("/metrics", &Method::GET) => scrape(&node).await,
                    ("/metrics", _) => {
                        let mut no = refusal(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET");
                        no.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
                        no
                    }
                    _ => refusal(StatusCode::NOT_FOUND, "there is /metrics here, and nothing else"),
                }
            }
        }));
        Ok(Self { address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn scrape(node: &Node) -> Reply {
    match node.metrics().await {
        Ok(text) => fresh(text.into(), MEDIA_TYPE),
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn refusal(status: StatusCode, message: &str) -> Reply {
    reply(status, &json!({ "message": message }))
}
