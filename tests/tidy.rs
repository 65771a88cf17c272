//! The house rules that no compiler checks: which room may see which, what a file must say and must not hold.
//! Knows the source as text; `check` is a function of a path and a text, so it is tested on made-up files.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the ground up. A room imports from itself and from the lines above its own, nothing else.
const ROOMS: &[&[&str]] = &[
    &["alloc", "clock", "freshness", "glob", "number", "open_files", "process", "supervise", "version"],
    &["config", "random"],
    &["protocol", "tls", "types"],
    &["rdb"],
    &["keyspace", "script", "source"],
    &["state"],
    &["commands", "invalidate"],
    &["exec", "metrics"],
    &["server"],
];
/// The only files with unsafe code.
const UNSAFE: &[&str] = &[
    "src/alloc.rs",
    "src/keyspace/entry.rs",
    "src/script/bridge.rs",
    "src/script/raw.rs",
    "src/types/member.rs",
    "src/types/packed.rs",
    "src/types/prefetch.rs",
    "src/types/thin.rs",
    "src/types/zset_full.rs",
];
/// The only file that reads the time. What waits uses tokio's timers.
const CLOCK: &str = "src/clock.rs";
/// The only files that know the Postgres driver begin with this.
const POSTGRES: &str = "src/source/postgres";
const LINES_MAX: usize = 800;

/// What is wrong with the file at `path` (from the repository's root, with `/`).
fn check(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//! ") {
        faults.push("does not open with `//! `: what it is for, and what it must not know".to_owned());
    }
    if text.lines().count() > LINES_MAX {
        faults.push(format!("is longer than {LINES_MAX} lines"));
    }
    // Put together here, so that this file may be checked as well.
    for word in [concat!("to", "do!("), concat!("db", "g!("), concat!("FIX", "ME"), concat!("XX", "X")] {
        if text.contains(word) {
            faults.push(format!("holds {word}"));
        }
    }
    if !path.starts_with("src/") {
        return faults;
    }
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut only_in = |allowed: bool, words: &[&str], place: &str| {
        for word in words.iter().filter(|word| !allowed && code.contains(**word)) {
            faults.push(format!("holds `{word}`, which belongs into {place}"));
        }
    };
    only_in(UNSAFE.contains(&path), &["unsafe ", "allow(unsafe_code"], &UNSAFE.join(", "));
    only_in(path.starts_with(POSTGRES), &["tokio_postgres"], &format!("{POSTGRES}*.rs"));
    let reads_clock = path == CLOCK || path.ends_with("_tests.rs");
    only_in(reads_clock, &["SystemTime", "std::time::Instant", "time::{Duration, Instant}"], CLOCK);
    faults.extend(check_imports(path, &code));
    faults
}

/// The name of a room's first folder or file: `keyspace` for `src/keyspace/entry.rs`.
fn room(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
}

fn check_imports(path: &str, code: &str) -> Vec<String> {
    let floor = |room: &str| ROOMS.iter().position(|rooms| rooms.contains(&room));
    let here = room(path);
    // What wires the rooms together sees them all.
    if matches!(here, "main" | "lib" | "daemon" | "log" | "ping") {
        return Vec::new();
    }
    let Some(own) = floor(here) else {
        return vec![format!("is in a room ({here}) that tests/tidy.rs does not know")];
    };
    let mut faults = Vec::new();
    for name in code.match_indices("crate::").flat_map(|(at, found)| first_names(&code[at + found.len()..])) {
        if name != here && floor(name).is_none_or(|other| other >= own) {
            faults.push(format!("imports crate::{name}, which is not below {here}"));
        }
    }
    faults
}

/// The names directly behind `crate::`: one, or those of a list in braces.
fn first_names(rest: &str) -> Vec<&str> {
    let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(list) = rest.strip_prefix('{') else {
        return vec![&rest[..word(rest)]];
    };
    let (mut names, mut depth, mut due) = (Vec::new(), 0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => due = true,
            c if due && !c.is_whitespace() => {
                names.push(&list[at..at + word(&list[at..])]);
                due = false;
            }
            _ => {}
        }
    }
    names
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source can be listed") {
        let path = entry.expect("the source can be listed").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        rust_files(&root.join(folder), &mut files);
    }
    assert!(files.len() > 50, "only {} files were found", files.len());
    let mut faults = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).expect("it is below the root").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("a source file can be read");
        faults.extend(check(&path, &text).into_iter().map(|fault| format!("{path}: {fault}")));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_rule_can_fail() {
    let faults = |path: &str, code: &str| check(path, &format!("//! A sample.\n{code}\n")).join("; ");
    let refused = [
        ("src/keyspace/shard.rs", "use crate::commands::Args;", "imports crate::commands, which is not below keyspace"),
        ("src/keyspace/shard.rs", "use crate::{\n    glob,\n    clock::{self, now_ms},\n    exec,\n};", "crate::exec"),
        ("src/keyspace/shard.rs", "fn f() { crate::source::g() }", "crate::source"),
        ("src/glob.rs", "use crate::clock;", "crate::clock"),
        ("src/nowhere/file.rs", "", "a room (nowhere)"),
        ("src/glob.rs", "fn f() { unsafe { g() } }", "`unsafe `"),
        ("src/source/pool.rs", "use tokio_postgres::Client;", "`tokio_postgres`"),
        ("src/exec/fill.rs", "use std::time::{Duration, Instant};", "src/clock.rs"),
        ("src/glob.rs", concat!("fn f() { to", "do!() }"), concat!("to", "do!(")),
        ("tests/scan.rs", concat!("// FIX", "ME"), concat!("FIX", "ME")),
        ("tests/scan.rs", &"\n".repeat(LINES_MAX), "longer than"),
    ];
    for (path, code, fault) in refused {
        let found = faults(path, code);
        assert!(found.contains(fault), "{path} with {code:?}: {found:?}");
    }
    assert!(check("src/glob.rs", "// Not a head.\n")[0].contains("does not open with"));
    let allowed = [
        ("src/keyspace/shard.rs", "use crate::{clock, protocol::{Reply, Output}};\nuse crate::keyspace::Table;"),
        ("src/keyspace/shard.rs", "/// See [`crate::exec`], tokio_postgres and unsafe code.\nuse super::entry;"),
        ("src/alloc.rs", "unsafe impl GlobalAlloc for Counting {}"),
        ("src/source/postgres_link.rs", "use tokio_postgres::Client;"),
        ("src/main.rs", "use crate::anything;"),
    ];
    for (path, code) in allowed {
        assert_eq!(faults(path, code), "", "{path} with {code:?}");
    }
}
