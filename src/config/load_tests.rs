//! Tests of the command line and the file reader.

use super::*;
use proptest::prelude::*;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cenote-load-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(args: &[&str], stdin: &str) -> Result<Loaded, Vec<String>> {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let told = |faults: Vec<Fault>| faults.iter().map(Fault::to_string).collect();
    load(&args, &mut stdin.as_bytes()).map_err(told)
}

fn config(args: &[&str]) -> Config {
    run(args, "").unwrap().config
}

fn faults(args: &[&str]) -> Vec<String> {
    run(args, "").unwrap_err()
}

fn file_config(text: &str) -> Config {
    let folder = Folder::new();
    config(&[&folder.write("redis.conf", text)])
}

#[test]
fn arguments_as_redis_server_takes_them() {
    assert_eq!(config(&[]), Config::default());
    let one = config(&["--port", "6380", "--save", "", "--hz", "20"]);
    assert_eq!((one.port, one.hz, one.value("save")), (6380, 20, Some("")));
    let words = config(&["--bind", "127.0.0.1", "::1", "--save", "3600", "1", "300", "5"]);
    assert_eq!(words.value("bind"), Some("127.0.0.1 ::1"));
    assert_eq!(words.value("save"), Some("3600 1 300 5"));
    assert_eq!(config(&["--bind", "127.0.0.1 ::1"]), config(&["--bind", "127.0.0.1", "::1"]));
    let joined = config(&["--port 7119", "--HZ 20"]);
    assert_eq!((joined.port, joined.hz), (7119, 20));
    assert_eq!(config(&["--hz", "20", "--hz", "30"]).hz, 30);
    assert_eq!(config(&["--slowlog-log-slower-than", "-1"]).slowlog_log_slower_than, -1);
    // The shell has taken the quotes: what is left is the value.
    assert_eq!(config(&["--requirepass", "\"a b\""]).requirepass, "\"a b\"");
    assert_eq!(config(&["--routes", "r.toml", "--workers", "2"]).routes, "r.toml");
}

#[test]
fn a_value_may_look_like_a_name_but_save_may_stand_alone() {
    let odd = config(&["--requirepass", "--timeout", "--hz", "30"]);
    assert_eq!((odd.requirepass.as_str(), odd.hz), ("--timeout", 30));
    assert_eq!(config(&["--save", "--hz", "20"]).hz, 20);
    assert_eq!(config(&["--save", "1 2", "--save"]).value("save"), Some(""));
}

#[test]
fn save_lines_add_up() {
    assert_eq!(file_config("save 60 1\nsave 70 2\n").value("save"), Some("60 1 70 2"));
    assert_eq!(file_config("save 60 1\nsave \"\"\n").value("save"), Some(""));
    assert_eq!(file_config("save \"\"\nsave 1 2\n").value("save"), Some("1 2"));
    let folder = Folder::new();
    let file = folder.write("a.conf", "save 60 1\n");
    assert_eq!(config(&[&file, "--save", "5", "6"]).value("save"), Some("60 1 5 6"));
}

#[test]
fn the_file_then_standard_input_then_the_arguments() {
    let folder = Folder::new();
    let file = folder.write("a.conf", "hz 20\ntimeout 5\nport 7000\n");
    let loaded = run(&[&file, "--hz", "30", "-"], "timeout 6\nhz 25").unwrap();
    let config = &loaded.config;
    assert_eq!((config.hz, config.timeout, config.port), (30, 6, 7000));
    assert_eq!(loaded.file.as_deref(), Some(Path::new(&file)));
    let loaded = run(&["-", "--hz", "30"], "hz 20\ntimeout 9\n").unwrap();
    assert_eq!((loaded.config.hz, loaded.config.timeout, loaded.file), (30, 9, None));
}

#[test]
fn lines_of_a_file() {
    let text = "# comment\r\n\r\n\t HZ\t 20  \r\nrequirepass \"a\\x41b \\n\\\"q\"\r\n\"timeout\" '7'";
    let config = file_config(text);
    assert_eq!((config.hz, config.timeout), (20, 7));
    assert_eq!(config.requirepass, "aAb \n\"q");
    let limits = "client-output-buffer-limit normal 1 2 3\nclient-output-buffer-limit slave 4 5 6\n";
    let limits = file_config(limits).output_limits;
    assert_eq!((limits[0].hard, limits[1].hard, limits[2].hard), (1, 4, 33554432));
    let lines = file_config("rename-command FLUSHALL \"\"\nuser foo on nopass\n");
    assert_eq!(lines.lines().len(), 2);
    assert_eq!(lines.lines()[0].words, ["FLUSHALL", ""]);
}

#[test]
fn all_faults_with_their_lines() {
    let folder = Folder::new();
    let text = "maxmemmory 1gb\nport 70000\n# fine\nhz 20 # no comment here\nhz\nhz \"20\n\
                requirepass \"hush\nuser\nxyzzy-plugh 1\n";
    let file = folder.write("redis.conf", text);
    let list = faults(&[&file, "--hz=20", "--appendonly", "maybe", "--nosuchatall", "1"]);
    let text = list.join("\n").replace(&file, "redis.conf");
    let expected = "\
redis.conf:1: unknown directive 'maxmemmory'; did you mean 'maxmemory'?
redis.conf:2: port '70000': argument must be between 0 and 65535 inclusive; expected an integer between 0 and 65535
redis.conf:4: hz '20 # no comment here': wrong number of arguments; expected an integer between 0 and 2147483647
redis.conf:5: hz: wrong number of arguments; expected an integer between 0 and 2147483647
redis.conf:6: 'hz': unbalanced quotes; close them, and put a blank behind
redis.conf:7: 'requirepass': unbalanced quotes; close them, and put a blank behind
redis.conf:8: user: expected at least 1 more word(s)
redis.conf:9: unknown directive 'xyzzy-plugh'
command line: 'hz=…' is not a directive; write a blank, as in hz '20'";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("appendonly 'maybe': argument must be 'yes' or 'no'"));
    assert!(text.contains("unknown directive 'nosuchatall'"));
    assert_eq!(list.len(), 11);
}

#[test]
fn faults_hold_no_secrets() {
    for args in [&["--requirepass", "hush", "hush"][..], &["--requirepass=hush"]] {
        assert!(!faults(args)[0].contains("hush"));
    }
}

#[test]
fn arguments_that_are_none() {
    assert!(faults(&["/nonexistent/redis.conf"])[0].contains("No such file or directory"));
    assert!(faults(&["--", "--hz"])[0].contains("must be followed by a directive's name"));
    let folder = Folder::new();
    let file = folder.write("a.conf", "");
    assert!(faults(&[&file, "hz", "3"])[0].contains("expected --directive value, found 'hz'"));
    assert_eq!(faults(&["--hz"]).len(), 1);
}

#[test]
fn includes() {
    let folder = Folder::new();
    folder.write("inc/1.conf", "hz 44\ntimeout 3\n");
    folder.write("inc/2.conf", "hz 55\n");
    folder.write("inc/.hidden.conf", "hz 66\n");
    let file = folder.write("a.conf", "hz 33\ninclude inc/*.conf\ninclude inc/no*.conf\n");
    let read = config(&[&file]);
    assert_eq!((read.hz, read.timeout), (55, 3));
    let file = folder.write("b.conf", "include inc/1.conf\nhz 33\n");
    assert_eq!(config(&[&file]).hz, 33);
    let file = folder.write("c.conf", "hz 1\ninclude nope.conf\n");
    let list = faults(&[&file]);
    assert!(list[0].contains("c.conf:2: cannot read the file") && list.len() == 1, "{list:?}");
    folder.write("inc/3.conf", "hz x\n");
    assert!(faults(&[&folder.write("d.conf", "include inc/3.conf\n")])[0].contains("3.conf:1: hz"));
}

/// Files that include each other, or themselves by a pattern, must not be read for ever.
#[test]
fn circular_includes_end() {
    let folder = Folder::new();
    let file = folder.write("a.conf", "include a.conf\n");
    assert!(faults(&[&file])[0].contains("includes itself"));
    for name in 0..12 {
        folder.write(&format!("loop/{name}.conf"), "include *.conf\n");
    }
    let list = faults(&[&folder.write("b.conf", "include loop/*.conf\n")]);
    assert_eq!(list.len(), MAX_FAULTS);
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let loaded = run(&["--appendonly", "yes", "--maxclients", "20", "--timeout", "0", "--save"], "").unwrap();
    assert_eq!(loaded.warnings, ["appendonly 'yes': accepted, but without effect in Cenote"]);
    assert!(run(&["--user", "foo", "on", ">hush"], "").unwrap().warnings.is_empty());
    let twice = run(&["--loadmodule", "a.so", "--loadmodule", "b.so"], "").unwrap();
    assert_eq!(twice.warnings.len(), 1);
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused(text: Vec<u8>) {
        let mut loader = Loader::new();
        loader.text("any", &text);
    }

    #[test]
    fn any_directive_is_taken_or_refused(name in "[a-z-]{1,20}", value in ".{0,20}") {
        let _ = run(&[&format!("--{name}"), &value], "");
    }
}
