//! Prints figures and writes them down as they come: a run of some sections leaves the figures of the others as they
//! are, and one that is broken off leaves what it measured.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub struct Report {
    /// Title and text, in the order of `docs/benchmarks.md`.
    sections: Vec<(String, String)>,
    /// The one that is being measured.
    current: usize,
}

impl Report {
    /// Begins with what is written already.
    pub fn new() -> Report {
        let known = fs::read_to_string(path()).unwrap_or_default();
        let sections = known.split("\n## ").skip(1).filter_map(|section| {
            let (title, text) = section.split_once('\n')?;
            Some((title.to_owned(), format!("{}\n", text.trim_end())))
        });
        Report { sections: sections.collect(), current: usize::MAX }
    }

    /// Begins a section.
    pub fn section(&mut self, title: &str, explanation: &str) {
        println!("\n{title}");
        let begun = format!("\n{explanation}\n\n| What | Figure |\n|---|---|\n");
        let place = self.sections.iter().position(|(known, _)| known == title);
        match place {
            Some(place) => self.sections[place].1 = begun,
            None => self.sections.push((title.to_owned(), begun)),
        }
        self.current = place.unwrap_or(self.sections.len() - 1);
    }

    pub fn row(&mut self, what: &str, figure: impl AsRef<str>) {
        println!("  {what}: {}", figure.as_ref());
        if let Some((_, text)) = self.sections.get_mut(self.current) {
            let _ = writeln!(text, "| {what} | {} |", figure.as_ref());
        }
        self.write();
    }

    /// Writes docs/benchmarks.md.
    pub fn write(&self) {
        let head = format!(
            "# Benchmarks\n\nWritten by `make bench`: the build that is deployed (profile `dist`), durable Postgres (fsync on), server, \
             database, load and receiver all on one machine. Read them as ratios: each figure stands beside a peer or a floor from the same run.\n\n\
             Machine: {} cores, {}. Cardwire {}.\n",
            std::thread::available_parallelism().map_or(0, usize::from),
            memory(),
            env!("CARGO_PKG_VERSION"),
        );
        let sections: String = self.sections.iter().map(|(title, text)| format!("\n## {title}\n{text}")).collect();
        fs::create_dir_all(path().parent().expect("a file in a directory")).expect("docs can be made");
        fs::write(path(), head + &sections).expect("docs can be written");
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md")
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
