//! What goes wrong for a client, as JSON: what it was, and what to do about it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::model::CallError;
use crate::ticket::ReceiptError;

/// An answer that is not the one the client wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    status: StatusCode,
    error: String,
    remedy: &'static str,
}

impl Problem {
    /// A problem with this status.
    pub fn new(status: StatusCode, error: impl Into<String>, remedy: &'static str) -> Self {
        Self { status, error: error.into(), remedy }
    }

    /// The client sent something that cannot be used.
    pub fn bad(error: impl Into<String>, remedy: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, remedy)
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

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.error, "remedy": self.remedy }));
        let mut response = (self.status, body).into_response();
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
