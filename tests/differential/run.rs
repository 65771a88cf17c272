//! Runs a transcript on Cenote and on all oracles, in RESP2 and in RESP3, and reports every difference at once.

use std::fs;
use std::path::Path;

use crate::support::{Failure, Oracle};

use super::judge::{self, Outcome, Rule};
use super::rig::{Member, start_all};
use super::transcript::{Action, Ending, Note, Step, Transcript};

/// After so many commands without any answer the rest is not worth the wait.
const SILENCE_LIMIT: usize = 4;
/// Differences shown in full.
const SHOWN: usize = 150;

struct Run {
    file: String,
    tested: Member,
    oracles: Vec<(Oracle, Member)>,
    compared: usize,
    silent: usize,
    differences: Vec<String>,
}

fn run(name: &str, resp3: bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let transcript = Transcript::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (tested, oracles) = start_all(&transcript.server_args, resp3);
    let file = format!("tests/transcripts/{name}");
    let mut run = Run { file, tested, oracles, compared: 0, silent: 0, differences: Vec::new() };
    run.all(|member| member.new_section());
    for step in &transcript.steps {
        run.step(step);
        if run.silent >= SILENCE_LIMIT {
            run.differences.push(format!("{}:{}: gave up after so much silence", run.file, step.line));
            break;
        }
    }
    run.report(if resp3 { "RESP3" } else { "RESP2" });
}

impl Run {
    fn all(&mut self, mut action: impl FnMut(&mut Member)) {
        action(&mut self.tested);
        self.oracles.iter_mut().for_each(|(_, member)| action(member));
    }

    fn step(&mut self, step: &Step) {
        match &step.action {
            Action::Section => self.all(Member::new_section),
            Action::Connection(name) => self.all(|member| member.use_connection(name)),
            Action::Hello(version) => self.all(|member| member.hello(*version)),
            Action::Send(words) => self.all(|member| {
                let _ = member.run(words, Ending::Reply);
            }),
            Action::UntilNil(words) => {
                let mut done = true;
                self.all(|member| done &= member.until_nil(words));
                if !done {
                    self.differences.push(format!("{}:{}: {}: never became nil", self.file, step.line, step.text));
                }
            }
            Action::Compare { words, rule, note, ending } => self.compare(step, words, *rule, *note, *ending),
        }
    }

    fn compare(&mut self, step: &Step, words: &[Vec<u8>], rule: Rule, note: Option<Note>, ending: Ending) {
        let tested = self.tested.run(words, ending);
        let oracles: Vec<_> = self.oracles.iter_mut().map(|(oracle, m)| (*oracle, m.run(words, ending))).collect();
        self.compared += 1;
        self.silent += usize::from(matches!(tested, Err(Failure::Silent(_))));
        let Some(fault) = judge::fault(rule, note, &tested, &oracles) else {
            return;
        };
        let mut text =
            format!("{}:{}: {}\n  {fault}\n    cenote  {}", self.file, step.line, step.text, show(&tested, &oracles));
        for (oracle, outcome) in &oracles {
            text.push_str(&format!("\n    {:7} {}", oracle.name(), show(outcome, &[])));
        }
        self.differences.push(text);
    }

    fn report(&self, protocol: &str) {
        println!("{}: {} commands compared in {protocol}", self.file, self.compared);
        let count = self.differences.len();
        let shown = self.differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
        assert!(count == 0, "{protocol}: {count} differences in {} commands\n{shown}\n", self.compared);
    }
}

/// An outcome in a line; as bytes where its value alone would look like an oracle's and is not.
fn show(outcome: &Outcome, oracles: &[(Oracle, Outcome)]) -> String {
    let looks_same = |reply: &crate::support::Reply| {
        oracles.iter().any(|(_, o)| matches!(o, Ok(Some(o)) if o.value == reply.value && o.raw != reply.raw))
    };
    let text = match outcome {
        Ok(None) => "(no reply wanted)".to_owned(),
        Ok(Some(reply)) if looks_same(reply) => {
            format!("{reply:?}, other bytes: {}", crate::support::escape(&reply.raw))
        }
        Ok(Some(reply)) => format!("{reply:?}"),
        Err(failure) => format!("{failure:?}"),
    };
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(600).collect();
    if chars.next().is_some() { format!("{start}… ({} characters)", text.len()) } else { start }
}

macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn resp2() {
                super::run(concat!(stringify!($name), ".txt"), false);
            }
            #[test]
            fn resp3() {
                super::run(concat!(stringify!($name), ".txt"), true);
            }
        })*
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

transcripts!(
    strings,
    keys,
    connection,
    server,
    bitmaps,
    hyperloglog,
    lists,
    zsets,
    dump,
    zsets_more,
    geo,
    transactions,
    hashes,
    field_ttls,
    sets,
    sort,
    streams,
    acl,
    scripts,
    functions,
    commandlog
);

#[test]
fn every_transcript_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    for entry in fs::read_dir(folder).expect("there are transcripts") {
        let path = entry.expect("a file").path();
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
        assert!(NAMES.contains(&name), "{} is not in the list in run.rs", path.display());
    }
}
