//! Functions of the echo tool as an MCP server, made with the official SDK, to compare with.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::transport::io::stdio_pipes;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServiceExt, schemars, tool, tool_router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// What the server speaks over.
#[derive(Clone, Copy, ValueEnum)]
pub enum Transport {
    Http,
    Stdio,
}

/// Serves until the process is stopped, or standard input ends. Over HTTP it first prints its address.
pub fn serve(transport: Transport) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match transport {
        Transport::Http => runtime.block_on(http()),
        Transport::Stdio => runtime.block_on(async {
            Server.serve(stdio_pipes()).await?.waiting().await?;
            Ok(())
        }),
    }
}

async fn http() -> Result<()> {
    // The quickest that the SDK offers: no sessions, and responses that are not event streams.
    let config =
        StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let service = StreamableHttpService::new(|| Ok(Server), Arc::new(LocalSessionManager::default()), config);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/mcp", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            let handle = service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.handle(request).await) }
            });
            // A client that goes away is no error of the server's.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), handle).await;
        });
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Add {
    a: i32,
    b: i32,
}

#[derive(Serialize, schemars::JsonSchema)]
struct Sum {
    sum: i32,
}

/// Bytes, which JSON has only as text.
#[derive(Deserialize, Serialize, schemars::JsonSchema)]
struct Bytes {
    base64: String,
}

#[derive(Clone)]
struct Server;

#[tool_router(server_handler)]
impl Server {
    #[tool(description = "Add two numbers")]
    fn add(&self, Parameters(Add { a, b }): Parameters<Add>) -> Json<Sum> {
        Json(Sum { sum: a.wrapping_add(b) })
    }

    #[tool(description = "Give bytes back")]
    fn bytes(&self, Parameters(Bytes { base64 }): Parameters<Bytes>) -> Result<String, String> {
        let bytes = STANDARD.decode(base64).map_err(|error| error.to_string())?;
        Ok(STANDARD.encode(bytes))
    }
}
