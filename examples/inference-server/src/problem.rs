//! What goes wrong for a client, as JSON: what it was, and what to do about it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::model::CallError;
use crate::ticket::ReceiptError;

/// An answer that is not the one the client wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    status: StatusCode,
    error: String,
    remedy: String,
    /// What else the client should know.
    more: Option<Box<Value>>,
}

impl Problem {
    /// A problem with this status.
    pub fn new(status: StatusCode, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status, error: error.into(), remedy: remedy.into(), more: None }
    }

    /// The same, with these further fields.
    #[must_use]
    pub fn with(mut self, more: Value) -> Self {
        self.more = Some(Box::new(more));
        self
    }

    /// The client sent something that cannot be used.
    pub fn bad(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, remedy)
    }

    /// What the client wants does not go with how things stand.
    pub fn conflict(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error, remedy)
    }

    /// What went wrong.
    #[must_use]
    pub fn error(&self) -> &str {
        &self.error
    }

    /// The body is larger than `limit` bytes.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        let error = format!("the body has more than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, error, "send a smaller body")
    }

    /// All threads are busy and the queue is full.
    #[must_use]
    pub fn overloaded() -> Self {
        let error = "more requests wait than the server can answer soon";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, "try again in a second")
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let error = format!("the model gave no answer: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error, "try again; the failure was counted")
    }
}

impl From<ReceiptError> for Problem {
    fn from(error: ReceiptError) -> Self {
        let status = match error {
            ReceiptError::Mangled => StatusCode::BAD_REQUEST,
            ReceiptError::Unknown => StatusCode::NOT_FOUND,
        };
        Self::new(status, error.to_string(), "send the ticket as POST /classify gave it")
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.error, self.remedy)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error, "remedy": self.remedy });
        if let (Value::Object(body), Some(Value::Object(more))) =
            (&mut body, self.more.map(|more| *more))
        {
            body.extend(more);
        }
        let mut response = (self.status, Json(body)).into_response();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // The rest of the request stays unread, so nothing else can follow on the connection.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
