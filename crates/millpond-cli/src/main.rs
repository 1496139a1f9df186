//! The `millpond` program: it parses, calls the library, prints. It holds no rule of its own.
//!
//! ```text
//!  args  ─►  commands/<noun>  ─►  millpond (library)
//!                 │
//!                 ▼
//!              output  ─►  stdout: data (table, json, jsonl)
//!              report  ─►  stderr: talk, errors, advice      exit  ─►  exit code
//! ```

mod args;
mod commands;
mod context;
mod demo;
mod exit;
mod output;
mod report;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let cli = args::Cli::parse();
    let answer = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(commands::run(cli)),
        Err(e) => Err(millpond::Error::unavailable("cannot start the program's threads").with_source(e)),
    };
    match answer {
        Ok(exit) => exit.into(),
        Err(error) => {
            report::error(&error);
            exit::Exit::of(&error).into()
        }
    }
}
