//! Why a file was refused.

/// A file that was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlagdError {
    /// Too large to be read.
    #[error("a flag file of {len} bytes is too large; the most is {most}")]
    TooLarge {
        /// Its size.
        len: usize,
        /// What is allowed.
        most: usize,
    },
    /// Not JSON, nested too deeply, or with a key given twice.
    #[error("the flag file is not JSON that can be used: {0}")]
    Json(#[from] serde_json::Error),
    /// Something in it has the wrong shape.
    #[error("{at}: {problem}")]
    Shape {
        /// Where, as a path.
        at: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}
