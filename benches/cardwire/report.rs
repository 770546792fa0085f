//! Prints figures as they come and writes them down at the end.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub struct Report {
    text: String,
}

impl Report {
    pub fn new() -> Report {
        Report { text: String::new() }
    }

    /// Begins a section.
    pub fn section(&mut self, title: &str, explanation: &str) {
        println!("\n{title}");
        let _ = write!(self.text, "\n## {title}\n\n{explanation}\n\n| What | Figure |\n|---|---|\n");
    }

    pub fn row(&mut self, what: &str, figure: impl AsRef<str>) {
        println!("  {what}: {}", figure.as_ref());
        let _ = writeln!(self.text, "| {what} | {} |", figure.as_ref());
    }

    /// Writes docs/benchmarks.md after a whole run.
    pub fn write(&self, whole: bool) {
        if !whole {
            return;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let head = format!(
            "# Benchmarks\n\nWritten by `make bench`: release build, durable Postgres (fsync on), server, database, load and \
             receiver all on one machine. Read them as ratios: each figure stands beside a peer or a floor from the same run.\n\n\
             Machine: {} cores, {}. Cardwire {}.\n",
            std::thread::available_parallelism().map_or(0, usize::from),
            memory(),
            env!("CARGO_PKG_VERSION"),
        );
        fs::create_dir_all(root.join("docs")).expect("docs can be made");
        fs::write(root.join("docs/benchmarks.md"), format!("{head}{}", self.text)).expect("docs can be written");
        println!("\nwritten to docs/benchmarks.md");
    }
}

fn memory() -> String {
    let output =
        Command::new("sh").args(["-c", "grep MemTotal /proc/meminfo | awk '{print int($2/1048576+0.5)}'"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "memory unknown".to_owned() } else { format!("{text} GiB of memory") }
}

/// The value below which this share of the samples lies.
pub fn percentile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the samples")]
    let index = ((last as f64) * share).round() as usize;
    samples.get(index).copied().unwrap_or_default()
}

pub fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
