//! Who may import whom, and how large files may grow.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules without a domain, open to all.
const FOUNDATIONS: &[&str] = &[
    "app",
    "clock",
    "config",
    "db",
    "error",
    "ids",
    "net",
    "realtime",
    "sandbox",
    "secret",
    "telemetry",
    "text",
    "worker",
];

/// Which areas an area may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("events", &[]),
    ("access", &["events", "customers", "streams"]),
    ("streams", &["access", "events"]),
    ("customers", &["access", "events"]),
    ("cards", &["streams", "customers", "events", "access"]),
    ("flows", &["cards", "customers", "streams", "events", "access", "webhooks"]),
    ("triggers", &["flows", "customers", "events", "access"]),
    ("webhooks", &["events", "access"]),
    ("graphql", &["access", "cards", "customers", "events", "flows", "streams", "webhooks", "triggers"]),
    ("rest", &["access", "cards", "customers", "events", "flows", "streams", "webhooks", "triggers"]),
];

const HARD_LIMIT: usize = 800;

fn sources(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(below)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The first path segments after `crate::` in a source, tests of the module left out.
fn imports(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if word.is_empty() {
                // `use crate::{a::…, b::…}` on one line.
                for part in rest.trim_start_matches('{').split(", ") {
                    let word: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                    found.insert(word);
                }
            } else {
                found.insert(word);
            }
        }
    }
    found
}

#[test]
fn areas_import_only_what_the_law_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for path in sources("src") {
        let relative = path.strip_prefix(&src).unwrap();
        let area = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == area) else { continue };
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            let known_area = ALLOWED.iter().any(|(name, _)| *name == import);
            let foundation = FOUNDATIONS.contains(&import.as_str());
            if import != area && !foundation && known_area && !allowed.contains(&import.as_str()) {
                broken.push(format!("{} imports {import}", relative.display()));
            }
            if ["server", "command", "demo"].contains(&import.as_str()) {
                broken.push(format!("{} imports {import}", relative.display()));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn areas_never_see_the_transport() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for path in sources("src") {
        let relative = path.strip_prefix(&src).unwrap().to_path_buf();
        let area = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let domain = [
            "events",
            "access",
            "streams",
            "customers",
            "cards",
            "flows",
            "triggers",
            "webhooks",
            "realtime",
            "worker",
            "db",
        ];
        let source = fs::read_to_string(&path).unwrap();
        if domain.contains(&area.as_str()) && (source.contains("axum::") || source.contains("async_graphql::")) {
            broken.push(relative.display().to_string());
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn files_stay_readable() {
    let mut large = Vec::new();
    for path in sources("src").into_iter().chain(sources("tests")) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > HARD_LIMIT && !path.ends_with("db/schema.rs") {
            large.push(format!("{} has {lines} lines", path.display()));
        }
    }
    assert_eq!(large, Vec::<String>::new());
}

#[test]
fn every_module_says_what_it_is() {
    let mut silent = Vec::new();
    for path in sources("src") {
        let source = fs::read_to_string(&path).unwrap();
        if !source.starts_with("//!") && !path.ends_with("db/schema.rs") {
            silent.push(path.display().to_string());
        }
    }
    assert_eq!(silent, Vec::<String>::new());
}
