//! The `cardwire` program: parses the command and calls the library.

use std::process::ExitCode;

use cardwire::command::Cli;
use clap::Parser;
use tikv_jemallocator::Jemalloc;

/// Thousands of connections and batches come and go: this allocator keeps less between them, and is quicker.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

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
