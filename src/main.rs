//! The `cardwire` program: parses the command and calls the library.

use std::process::ExitCode;

use cardwire::command::Cli;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.in_sandbox() {
        return cardwire::sandbox::child::run();
    }
    serve(cli)
}

#[tokio::main]
async fn serve(cli: Cli) -> ExitCode {
    match cardwire::command::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cardwire: {message}");
            ExitCode::FAILURE
        }
    }
}
