//! What it costs to find a key's route among many, and to find that there is none.
//!
//! `cargo bench --bench matcher [-- ROUTES]` (1,000 unless given) prints nanoseconds a lookup: for keys of some route, and
//! for keys of none, which fail at the first segment, at the last, or after text that many templates begin with. A hit in
//! the cache asks for no route; only a miss does.

use cenote::source::{Matcher, Template};
use std::hint::black_box;
use std::time::Instant;

/// Lookups that are timed together; the fastest of several rounds counts, as the machine may be shared.
const LOOKUPS: usize = 200_000;
const ROUNDS: usize = 15;

/// A fifth each: two segments; four with two captures; captures within a segment; one common head; the rest of the key.
fn templates(routes: usize) -> Vec<Template> {
    let text = |n: usize| match n % 5 {
        0 => format!("object{n}:{{id}}"),
        1 => format!("tenant{n}:{{tenant}}:user:{{id}}"),
        2 => format!("report-{n}-{{day}}-v{{version}}"),
        3 => format!("app:table{n}:{{id}}"),
        _ => format!("files{n}:{{path:*}}"),
    };
    (0..routes).map(|n| Template::parse(&text(n)).expect("a template")).collect()
}

fn time(name: &str, matcher: &Matcher, keys: &[String], is_found: bool) {
    assert!(keys.iter().all(|key| matcher.find(key.as_bytes()).is_some() == is_found), "{name}");
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for key in keys.iter().cycle().take(LOOKUPS) {
            black_box(matcher.find(black_box(key.as_bytes())));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / LOOKUPS as f64);
    }
    println!("{name:<44}{best:>8.1} ns");
}

fn main() {
    let routes = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1000);
    let templates = templates(routes);
    let all: Vec<Option<&Template>> = templates.iter().map(Some).collect();
    let matcher = Matcher::build(&all).expect("no overlaps");
    println!("{routes} routes, ns a lookup\n");
    let keys = |text: &dyn Fn(usize) -> String| -> Vec<String> { (0..routes.max(5)).map(text).collect() };
    let of = |kind: usize| move |n: usize| (n / 5 * 5 + kind) % (routes / 5 * 5).max(5);
    if routes >= 5 {
        time("found: object7:ID", &matcher, &keys(&|n| format!("object{}:{n}", of(0)(n))), true);
        time("found: tenant7:T:user:ID", &matcher, &keys(&|n| format!("tenant{}:x:user:{n}", of(1)(n))), true);
        time("found: report-7-DAY-vN", &matcher, &keys(&|n| format!("report-{}-monday-v{n}", of(2)(n))), true);
        time("found: app:table7:ID", &matcher, &keys(&|n| format!("app:table{}:{n}", of(3)(n))), true);
        time("found: files7:ANY:THING", &matcher, &keys(&|n| format!("files{}:a:b:{n}", of(4)(n))), true);
    }
    time("missed: another first segment", &matcher, &keys(&|n| format!("session:{n}")), false);
    time("missed: no colon", &matcher, &keys(&|n| format!("counter{n}")), false);
    time("missed: the last segment", &matcher, &keys(&|n| format!("tenant{}:x:order:{n}", of(1)(n))), false);
    time("missed: one segment too many", &matcher, &keys(&|n| format!("app:table{}:{n}:x", of(3)(n))), false);
    time("missed: begins like a fifth of the routes", &matcher, &keys(&|n| format!("report-{n}x")), false);
}
