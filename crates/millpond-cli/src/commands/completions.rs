//! `millpond completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use millpond::Result;

use crate::exit::Exit;

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::Cli::command(), "millpond", &mut script);
    crate::output::write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
