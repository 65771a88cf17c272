//! The configuration at start: the command line of redis-server, redis.conf, standard input.
//! Finds all faults, not only the first. Does not know `--help` and `--version`.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directives::{Found, Kind, find, nearest};
use super::in_force::{Config, Line};
use super::io_text;
use super::line::{shown, split};
use super::value::parse;
use crate::glob;

/// A file that is larger is not read on.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// More files are not included; a pattern that includes its own file would multiply them.
const MAX_FILES: usize = 1000;
/// More faults are not collected.
const MAX_FAULTS: usize = 100;

/// What [`Config::load`] found.
#[derive(Debug)]
pub struct Loaded {
    /// The values in force.
    pub config: Config,
    /// One line each: what was set but has no effect in Cenote.
    pub warnings: Vec<String>,
    /// The file named on the command line, absolute: `CONFIG REWRITE` writes it.
    pub file: Option<PathBuf>,
}

/// Something wrong on the command line or in a file. `Display` is one line and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, and what would be right.
    pub text: String,
}

/// Where a directive stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the command line.
    CommandLine,
    /// In a file, or in `standard input`.
    File {
        /// The path as it was given.
        path: Arc<str>,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::CommandLine => write!(f, "command line: {}", self.text),
            Place::File { path, line } => write!(f, "{path}:{line}: {}", self.text),
        }
    }
}

impl std::error::Error for Fault {}

impl Config {
    /// Reads `[file | -] [--directive value …] [-]`, as redis-server does: the file first, then
    /// standard input where a `-` asks for it, then the arguments, the last one winning.
    /// `args` is without the program's name.
    pub fn load<S: Into<OsString> + Clone>(args: &[S]) -> Result<Loaded, Vec<Fault>> {
        let args: Vec<OsString> = args.iter().cloned().map(Into::into).collect();
        load(&args, &mut std::io::stdin().lock())
    }
}

fn load(args: &[OsString], stdin: &mut dyn Read) -> Result<Loaded, Vec<Fault>> {
    let mut loader = Loader::new();
    let mut rest = args;
    let mut from_stdin = false;
    let mut file = None;
    if let [first, others @ ..] = rest
        && !first.as_encoded_bytes().starts_with(b"--")
    {
        rest = others;
        match first == "-" {
            true => from_stdin = true,
            false => file = loader.main_file(Path::new(first)),
        }
    }
    if let [others @ .., last] = rest
        && last == "-"
    {
        rest = others;
        from_stdin = true;
    }
    if from_stdin {
        loader.stdin(stdin);
    }
    loader.arguments(rest);
    loader.finish(file)
}

/// One `--name` and its values.
struct Argument {
    /// What stands behind the dashes; `--port 6380` may be one argument.
    name: Vec<String>,
    values: Vec<String>,
}

struct Loader {
    values: Vec<Arc<str>>,
    lines: Vec<Line>,
    /// The first `save` replaces the default, further ones add to it.
    save_seen: bool,
    /// The files being read, innermost last.
    open: Vec<PathBuf>,
    files: usize,
    faults: Vec<Fault>,
}

impl Loader {
    fn new() -> Self {
        Loader {
            values: Config::default().values,
            lines: Vec::new(),
            save_seen: false,
            open: Vec::new(),
            files: 0,
            faults: Vec::new(),
        }
    }

    fn finish(self, file: Option<PathBuf>) -> Result<Loaded, Vec<Fault>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let config = Config::new(self.values, self.lines);
        let warnings = config.warnings();
        Ok(Loaded { config, warnings, file })
    }

    fn fault(&mut self, place: &Place, text: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { place: place.clone(), text: text.into() });
        }
    }

    // ---- the command line ----

    fn main_file(&mut self, path: &Path) -> Option<PathBuf> {
        self.file(path, &Place::CommandLine);
        std::path::absolute(path).ok()
    }

    fn stdin(&mut self, stdin: &mut dyn Read) {
        let mut text = Vec::new();
        let name = "standard input";
        match stdin.take(MAX_FILE_BYTES + 1).read_to_end(&mut text) {
            Ok(_) => self.text(name, &text),
            Err(error) => {
                let text = format!("cannot read {name}: {}", io_text(&error));
                self.fault(&Place::CommandLine, text);
            }
        }
    }

    fn arguments(&mut self, args: &[OsString]) {
        let place = Place::CommandLine;
        let mut list: Vec<Argument> = Vec::new();
        for arg in args {
            let Some(arg) = arg.to_str() else {
                let text = shown(&arg.to_string_lossy());
                self.fault(&place, format!("argument {text} is not valid UTF-8"));
                continue;
            };
            // A name without a value takes the next argument even if it looks like a name
            // (`--requirepass --x`), except that `--save` may stand alone.
            let wants_value = list.last().is_some_and(|last| {
                let [name] = &last.name[..] else { return false };
                last.values.is_empty() && !is_save(name) && !name.contains('=')
            });
            match (arg.strip_prefix("--"), list.last_mut()) {
                (Some(name), _) if !wants_value => match words_of(name.as_bytes()) {
                    Ok(name) if !name.is_empty() => list.push(Argument { name, values: vec![] }),
                    Ok(_) => self.fault(&place, "'--' must be followed by a directive's name"),
                    Err(text) => self.fault(&place, format!("{}: {text}", shown(arg))),
                },
                (_, Some(last)) => last.values.push(arg.to_owned()),
                (_, None) => {
                    let text = format!("expected --directive value, found {}", shown(arg));
                    self.fault(&place, text);
                }
            }
        }
        for Argument { mut name, mut values } in list {
            if is_save(&name[0]) && name.len() == 1 && values.is_empty() {
                values.push(String::new());
            }
            name.append(&mut values);
            self.directive(&place, &name);
        }
    }

    // ---- files ----

    fn file(&mut self, path: &Path, place: &Place) {
        let name = path.to_string_lossy().into_owned();
        let cannot = |text: &str| format!("cannot read the file {}: {text}", shown(&name));
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => return self.fault(place, cannot(&io_text(&error))),
        };
        if self.open.contains(&real) {
            return self.fault(place, format!("{} includes itself", shown(&name)));
        }
        self.files += 1;
        if self.files > MAX_FILES {
            if self.files == MAX_FILES + 1 {
                self.fault(place, format!("more than {MAX_FILES} files are included"));
            }
            return;
        }
        let mut text = Vec::new();
        let read = File::open(&real).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text));
        if let Err(error) = read {
            return self.fault(place, cannot(&io_text(&error)));
        }
        self.open.push(real);
        self.text(&name, &text);
        self.open.pop();
    }

    fn text(&mut self, name: &str, text: &[u8]) {
        let path: Arc<str> = name.into();
        if text.len() as u64 > MAX_FILE_BYTES {
            let place = Place::File { path, line: 1 };
            return self.fault(&place, format!("larger than {} MB", MAX_FILE_BYTES >> 20));
        }
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let place = Place::File { path: path.clone(), line: at + 1 };
            match words_of(line) {
                Ok(words) if words.is_empty() => {}
                Ok(words) => self.directive(&place, &words),
                Err(text) => {
                    // The line may hold a password: only its first word is told.
                    let first = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
                    let first = shown(&String::from_utf8_lossy(first));
                    self.fault(&place, format!("{first}: {text}"));
                }
            }
        }
    }

    fn include(&mut self, place: &Place, words: &[String]) {
        let [pattern] = words else {
            return self.fault(place, "include: expected one path or pattern");
        };
        if glob::is_literal(pattern.as_bytes()) {
            let path = self.resolve(Path::new(pattern));
            return self.file(&path, place);
        }
        for path in expand(&self.resolve(Path::new(pattern))) {
            self.file(&path, place);
        }
    }

    /// A relative path counts from the working directory, as in Redis; where there is no such
    /// file (or directory of a pattern), from the directory of the file that includes it.
    fn resolve(&self, path: &Path) -> PathBuf {
        let fixed: PathBuf =
            path.components().take_while(|part| glob::is_literal(part.as_os_str().as_encoded_bytes())).collect();
        let here = match fixed.as_os_str().is_empty() {
            true => path.is_absolute() || !expand(path).is_empty(),
            false => path.is_absolute() || fixed.exists(),
        };
        match self.open.last().and_then(|file| file.parent()) {
            Some(directory) if !here => directory.join(path),
            _ => path.to_owned(),
        }
    }

    // ---- one directive ----

    fn directive(&mut self, place: &Place, words: &[String]) {
        let [name, words @ ..] = words else { return };
        let Some(found) = find(name.as_bytes()) else {
            return self.fault(place, unknown(name));
        };
        let row = found.directive;
        if let Kind::Line { words: least } = row.kind {
            if words.len() < least {
                return self.fault(place, format!("{}: expected {}", found.name, row.kind));
            }
            if row.name == "include" {
                return self.include(place, words);
            }
            self.lines.push(Line { name: row.name, words: words.to_vec() });
            return;
        }
        let list: Vec<&str> = words.iter().map(String::as_str).collect();
        match parse(row, &self.values[found.index], &list) {
            Ok(text) => self.store(&found, text),
            Err(text) => {
                let value = match row.secret || words.is_empty() {
                    true => String::new(),
                    false => format!(" {}", shown(&words.join(" "))),
                };
                let expected = format!("{}{value}: {text}; expected {}", found.name, row.kind);
                self.fault(place, expected);
            }
        }
    }

    fn store(&mut self, found: &Found, text: String) {
        let value = &mut self.values[found.index];
        if is_save(found.name) {
            if self.save_seen && !text.is_empty() && !value.is_empty() {
                *value = format!("{value} {text}").into();
                return;
            }
            self.save_seen = true;
        }
        *value = text.into();
    }
}

fn is_save(name: &str) -> bool {
    name.eq_ignore_ascii_case("save")
}

fn words_of(line: &[u8]) -> Result<Vec<String>, &'static str> {
    let words = split(line).map_err(|_| "unbalanced quotes; close them, and put a blank behind")?;
    let words: Result<Vec<_>, _> = words.into_iter().map(String::from_utf8).collect();
    words.map_err(|_| "not valid UTF-8")
}

fn unknown(name: &str) -> String {
    if let Some((name, value)) = name.split_once('=')
        && find(name.as_bytes()).is_some()
    {
        let value = if value.is_empty() { "value" } else { value };
        let secret = find(name.as_bytes()).is_some_and(|found| found.directive.secret);
        let value = if secret { "…".to_owned() } else { shown(value) };
        return format!("'{name}=…' is not a directive; write a blank, as in {name} {value}");
    }
    match nearest(name) {
        Some(known) => format!("unknown directive {}; did you mean '{known}'?", shown(name)),
        None => format!("unknown directive {}", shown(name)),
    }
}

/// The files that a pattern names, sorted; as for the shell, `*` matches no leading dot.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for part in pattern.components() {
        let bytes = part.as_os_str().as_encoded_bytes();
        if glob::is_literal(bytes) {
            paths.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for path in &paths {
            let directory = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            // What is no directory, or cannot be read, matches nothing.
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.as_encoded_bytes();
                let dot = name.starts_with(b".") && !bytes.starts_with(b".");
                if !dot && glob::matches(bytes, name, false) && next.len() <= MAX_FILES {
                    next.push(path.join(entry.file_name()));
                }
            }
        }
        paths = next;
    }
    paths.retain(|path| path.exists());
    paths.sort();
    paths
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
