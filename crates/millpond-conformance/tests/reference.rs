//! The reference engine keeps every promise of the suite.

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    millpond_conformance::harness::main_on(Arc::new(millpond_conformance::ReferencePlace::new()))
}
