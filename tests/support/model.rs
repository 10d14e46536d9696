//! A scripted model server, which serves the model's API from a script. Everything else in a run is real.
//!
//! The counts of tool results and of ended turns in a request determine the step, so the server has no state between
//! requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A step of a script: a response of the model.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// A use of a tool, with its name and its input.
    Tool(String, Value),
    /// A text that ends the turn.
    Text(String),
}

/// A received request.
#[allow(dead_code, reason = "the program does not read requests")]
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method and the path, such as `POST /v1/messages`.
    pub what: String,
    /// The values of `x-api-key` and `authorization`.
    pub credentials: Vec<String>,
    /// The body as text.
    pub body: String,
}

/// A server on a loopback port. It ends with its runtime.
#[derive(Clone)]
pub struct ScriptedModel {
    /// The address of the server.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ScriptedModel {
    /// Starts a server with a script.
    pub async fn start(script: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let model = Self { address, seen: Arc::clone(&seen) };
        let script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                let service = service_fn(move |request| respond(request, Arc::clone(&script), Arc::clone(&seen)));
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        model
    }

    /// Returns the requests that were received so far.
    #[allow(dead_code, reason = "the program does not read requests")]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }
}

async fn respond(
    request: Request<Incoming>,
    script: Arc<Vec<Step>>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    seen.lock().expect("no panic").push(Seen {
        what: format!("{} {}", head.method, head.uri.path()),
        credentials: ["x-api-key", "authorization"].into_iter().filter_map(header).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let reply = |kind: &str, text: String| {
        Response::builder().header("content-type", kind).body(Full::new(Bytes::from(text))).expect("a response")
    };
    Ok(match (head.method, head.uri.path()) {
        (Method::HEAD, "/") => reply("text/plain", String::new()),
        (Method::POST, "/v1/messages/count_tokens") => {
            reply("application/json", json!({"input_tokens": 10}).to_string())
        }
        (Method::POST, "/v1/messages") => {
            let request: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (number, step) = find_step(&request, &script);
            if request["stream"] == true {
                reply("text/event-stream", build_events(number, &step))
            } else {
                reply("application/json", build_whole_message(number, &step).to_string())
            }
        }
        _ => {
            let mut response = reply("application/json", json!({"type": "error"}).to_string());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

/// Finds the step for a request, and its number. Requests without tools, such as titles and quota checks, get a short
/// text.
fn find_step(request: &Value, script: &[Step]) -> (usize, Step) {
    let has_tools = request["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    let blocks = request["messages"].as_array().into_iter().flatten();
    let blocks = blocks.filter_map(|m| m["content"].as_array()).flatten();
    let results = blocks.filter(|b| b["type"] == "tool_result").count();
    let uses_tool = |m: &&Value| m["content"].as_array().into_iter().flatten().any(|b| b["type"] == "tool_use");
    let answers = request["messages"].as_array().into_iter().flatten().filter(|m| m["role"] == "assistant");
    let number = results + answers.filter(|m| !uses_tool(m)).count();
    let step = script.get(number).filter(|_| has_tools);
    (number, step.cloned().unwrap_or_else(|| Step::Text("Done.".into())))
}

/// Returns a step as an empty content block, the delta that fills it, and the stop reason.
fn step_content(number: usize, step: &Step) -> (Value, Value, &'static str) {
    match step {
        Step::Tool(name, input) => (
            json!({"type": "tool_use", "id": format!("toolu_{number}"), "name": name, "input": {}}),
            json!({"type": "input_json_delta", "partial_json": input.to_string()}),
            "tool_use",
        ),
        Step::Text(text) => {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}), "end_turn")
        }
    }
}

fn build_message(number: usize, content: Value, reason: Value) -> Value {
    json!({
        "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": "scripted", "content": content,
        "stop_reason": reason, "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 10},
    })
}

fn build_events(number: usize, step: &Step) -> String {
    let (start, delta, reason) = step_content(number, step);
    let all = [
        json!({"type": "message_start", "message": build_message(number, json!([]), Value::Null)}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
               "usage": {"output_tokens": 10}}),
        json!({"type": "message_stop"}),
    ];
    all.iter().map(|e| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap_or_default())).collect()
}

fn build_whole_message(number: usize, step: &Step) -> Value {
    let (_, _, reason) = step_content(number, step);
    let block = match step {
        Step::Tool(name, input) => {
            json!({"type": "tool_use", "id": format!("toolu_{number}"), "name": name, "input": input})
        }
        Step::Text(text) => json!({"type": "text", "text": text}),
    };
    build_message(number, json!([block]), reason.into())
}
