//! Finds the PostgreSQL server binaries of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

/// Parents of version directories, and what lies between a version and its binaries.
const USUAL: &[(&str, &str)] = &[
    ("/usr/lib/postgresql", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "bin"),
    ("/usr", "bin"),
];

/// Gives the directory that holds `initdb` and `postgres`: the configured one, or the first found in `PATH`, by
/// `pg_config`, or in the usual places of Debian, Red Hat, Homebrew and Postgres.app.
pub fn find(configured: Option<&Path>) -> Result<PathBuf> {
    if let Some(dir) = configured {
        return if complete(dir) {
            Ok(dir.to_owned())
        } else {
            Err(Error::internal(format!("{} does not hold initdb and postgres", dir.display())))
        };
    }
    in_path().or_else(by_pg_config).or_else(in_usual_places).ok_or_else(|| {
        Error::internal(
            "no PostgreSQL server binaries were found: install them (Debian and Ubuntu: apt-get install postgresql; \
             macOS: brew install postgresql@17), name their directory with CARDWIRE_POSTGRES_BIN, \
             or set DATABASE_URL to a running server",
        )
    })
}

fn complete(dir: &Path) -> bool {
    dir.join("initdb").is_file() && dir.join("postgres").is_file()
}

fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|dir| complete(dir))
}

fn by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let dir = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    complete(&dir).then_some(dir)
}

fn in_usual_places() -> Option<PathBuf> {
    for (parent, below) in USUAL {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let mut found: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path().join(below))).filter(|dir| complete(dir)).collect();
        found.sort_by_key(|dir| version(dir));
        if let Some(newest) = found.pop() {
            return Some(newest);
        }
    }
    None
}

/// The digits of the version directory, so that 17 sorts after 9.6.
fn version(dir: &Path) -> u32 {
    let name =
        dir.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let digits: String = name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}
