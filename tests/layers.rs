//! The house's walls: who may import whom, checked by reading `use crate::…`.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may look into. Downwards only; this is the map.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("kernels", &["error"]),
    ("frame", &["error", "kernels"]),
    ("foreign", &["error"]),
    ("storage", &["error", "frame"]),
    ("models", &["error", "kernels", "frame"]),
    ("functions", &["error", "kernels", "frame", "models"]),
    ("engine", &["error", "frame", "foreign", "storage", "models", "functions"]),
    ("demo", &["error"]),
    ("server", &["error", "engine"]),
    ("cli", &["error", "engine", "demo", "server"]),
];

#[test]
fn rooms_only_import_downwards() {
    for (room, allowed) in MAY_IMPORT {
        for (file, text) in sources(room) {
            assert!(!text.contains("use crate::{"), "{file}: one `use crate::room::…` line per room");
            for name in imports(&text) {
                assert!(
                    name == *room || allowed.contains(&name),
                    "{file}: {room} must not import crate::{name}; see docs/ARCHITECTURE.md",
                );
            }
        }
    }
}

#[test]
fn the_map_has_no_cycle() {
    // A room may only name rooms that stand above it in the list.
    for (at, (room, allowed)) in MAY_IMPORT.iter().enumerate() {
        for name in *allowed {
            let above = MAY_IMPORT.iter().position(|(other, _)| other == name).is_some_and(|other| other < at);
            assert!(above, "{room} -> {name} points upwards");
        }
    }
}

#[test]
fn the_map_names_every_room() {
    let lib = fs::read_to_string(root().join("lib.rs")).unwrap();
    let mut declared: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut mapped: Vec<&str> = MAY_IMPORT.iter().map(|(room, _)| *room).collect();
    declared.sort_unstable();
    mapped.sort_unstable();
    assert_eq!(declared, mapped);
    for room in mapped {
        assert!(!sources(room).is_empty(), "{room} has no source");
    }
}

#[test]
fn every_file_starts_with_what_it_is() {
    for (file, text) in files(vec![root()]) {
        assert!(text.starts_with("//! "), "{file} must start with a sentence after //!");
    }
}

/// The first path segment after each `crate::` in code (comments skipped).
fn imports(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
        .filter(|name| !name.is_empty())
        .collect()
}

/// Every source file of a room: `src/room.rs` and all below `src/room/`.
fn sources(room: &str) -> Vec<(String, String)> {
    files(vec![root().join(format!("{room}.rs")), root().join(room)])
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The Rust files among these paths and below them, with their text.
fn files(mut todo: Vec<PathBuf>) -> Vec<(String, String)> {
    let mut files = Vec::new();
    while let Some(path) = todo.pop() {
        if let Ok(entries) = fs::read_dir(&path) {
            todo.extend(entries.flatten().map(|entry| entry.path()));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && let Ok(text) = fs::read_to_string(&path)
        {
            files.push((path.display().to_string(), text));
        }
    }
    files
}
