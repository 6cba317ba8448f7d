//! Tollgate's RTP path: the native media core.

use pyo3::prelude::*;

#[pymodule]
mod _native {}
