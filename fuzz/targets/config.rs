//! The directives: any text is refused with faults or read, and what is read can be printed, rewritten as a file,
//! read back and set again without a change.
//!
//! Each line of the input is a directive and its values. They go in as arguments, so no file is involved; `include`
//! and `dir` name files, and are left out.
#![no_main]

use cenote::config::{Config, line};
use libfuzzer_sys::fuzz_target;

fn load<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Config> {
    let args: Vec<String> = lines.map(|line| format!("--{line}")).collect();
    let loaded = Config::load(&args).ok()?;
    for warning in &loaded.warnings {
        assert!(!warning.contains('\n'));
    }
    Some(loaded.config)
}

fn names_a_file(line: &str) -> bool {
    let Ok(words) = line::split(line.as_bytes()) else { return false };
    let first = words.first().map(Vec::as_slice).unwrap_or_default();
    [b"include".as_slice(), b"dir"].iter().any(|name| first.eq_ignore_ascii_case(name))
}

fuzz_target!(|text: &str| {
    // A directive without a value takes the next argument, so each stands alone first.
    let lines = || text.lines().filter(|line| !line.is_empty() && !line.contains('\0') && !names_a_file(line));
    for line in lines() {
        if let Ok(words) = line::split(line.as_bytes()) {
            let quoted: Vec<String> = words.iter().map(|word| line::quote(word)).collect();
            assert_eq!(line::split(quoted.join(" ").as_bytes()).as_ref(), Ok(&words));
            if let [name, value] = &words[..] {
                set(name, value);
            }
        }
        let Some(config) = load([line].into_iter()) else { continue };
        let rewritten = config.rewrite(None, None);
        let values = |config: &Config| config.get(&[b"*"]);
        let written = rewritten.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let again = load(written).expect("what Cenote writes, it reads");
        assert_eq!(values(&config), values(&again), "{rewritten}");
        assert_eq!(rewritten, config.rewrite(Some(&rewritten), None));
    }
    load(lines());
});

/// CONFIG SET, and what was set once more.
fn set(name: &[u8], value: &[u8]) {
    let Ok(config) = Config::default().set(&[(name, value)], true) else { return };
    let shown = config.get(&[name]);
    for (name, value) in &shown {
        let again = config.set(&[(name.as_bytes(), value.as_bytes())], true).expect("a value in force can be set");
        assert_eq!(again.get(&[name.as_bytes()]), shown);
    }
}
