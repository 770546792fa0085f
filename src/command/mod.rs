//! The commands of the `cardwire` program.

mod doctor;
mod open;
mod serve;

use clap::{Parser, Subcommand};

use crate::config::{Config, Settings};
use crate::error::{Error, Result};
use crate::{demo, graphql, sandbox, telemetry};

pub use open::Opened;

/// An open, self-hosted backend through which companies talk to their customers inside their own apps.
#[derive(Parser)]
#[command(name = "cardwire", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(Settings),
    /// Run the server with a ready environment, a demo page at /demo, and loopback destinations allowed
    Demo(Settings),
    /// Bring the database to the schema of this version, and exit
    Migrate(Settings),
    /// Print the GraphQL schema, and exit
    Schema,
    /// Check database, clock, directories and address rules, and say what to do
    Doctor(Settings),
    /// Run scripts on standard input; the server calls this itself
    #[command(name = sandbox::child::COMMAND, hide = true)]
    Sandbox,
}

impl Cli {
    /// Whether the program is a child of a server: then it runs [`sandbox::child::run`] without threads of a runtime.
    pub fn in_sandbox(&self) -> bool {
        matches!(self.command, Command::Sandbox)
    }
}

/// Runs one command to its end. The error is for the terminal.
pub async fn run(cli: Cli) -> Result<(), String> {
    match cli.command {
        Command::Serve(settings) => serve::run(check(settings)?).await.map_err(|error| say(&error)),
        Command::Demo(settings) => demo::run(check(settings)?).await.map_err(|error| say(&error)),
        Command::Migrate(settings) => migrate(check(settings)?).await.map_err(|error| say(&error)),
        Command::Schema => {
            print(graphql::sdl().trim_end());
            Ok(())
        }
        Command::Doctor(settings) => doctor::run(check(settings)?).await,
        Command::Sandbox => Err("this command does not run beside others".to_owned()),
    }
}

pub(crate) use serve::{serve_until_stopped, write_ready_file};

fn check(settings: Settings) -> Result<Config, String> {
    let config = settings.check().map_err(|errors| format!("configuration:\n  {}", errors.join("\n  ")))?;
    telemetry::start_logging(config.log_format, &config.log);
    telemetry::metrics();
    Ok(config)
}

fn say(error: &Error) -> String {
    error.cause().map_or_else(|| error.to_string(), ToString::to_string)
}

async fn migrate(config: Config) -> Result<()> {
    let database = open::Database::open(&config).await?;
    for name in crate::db::migrations::run(database.url()).await? {
        print(&format!("applied {name}"));
    }
    print("the database has the schema of this version");
    database.close().await;
    Ok(())
}

/// Commands speak to the terminal on standard output; logs go to standard error.
#[expect(clippy::print_stdout, reason = "this is the program's output")]
pub(crate) fn print(line: &str) {
    println!("{line}");
}
