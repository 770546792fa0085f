//! How long a start takes, and what a server holds when nobody asks for anything.

use std::fs;
use std::time::{Duration, Instant};

use crate::report::{Report, millis};
use crate::subject::Subject;

pub async fn run(report: &mut Report) {
    report.section(
        "Start and idle memory",
        "`cardwire demo` until its ready file stands (private cluster, migrations and demo environment included), and \
         the resident memory of the server process after ten idle seconds.",
    );
    let directory = std::env::temp_dir().join(format!("cardwire-bench-start-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    let began = Instant::now();
    let first = Subject::start_in(directory.clone()).await;
    report.row("first start on an empty directory", millis(began.elapsed()));
    drop(first);
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        let again = Subject::start_in(directory.clone()).await;
        best = best.min(began.elapsed());
        drop(again);
    }
    report.row("start on an existing directory, best of 3 (aim: under 1 s)", millis(best));
    let idle = Subject::start_in(directory).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    report.row("idle memory of the server process (aim: under 100 MB)", format!("{:.1} MB", resident(idle.pid())));
}

/// Resident memory of a process in MB.
pub fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    let kilobytes: f64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(f64::NAN);
    kilobytes / 1024.0
}
