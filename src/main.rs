//! The `cardwire` program: parses the command and calls the library.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match cardwire::command::run(cardwire::command::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cardwire: {message}");
            ExitCode::FAILURE
        }
    }
}
