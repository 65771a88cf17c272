//! The routes file and its queries: any text is read or refused, with faults of one line each that name a line of
//! the file.
#![no_main]

use cenote::source::{Config, Query, Routes, Target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse("routes.toml", text, None) {
        Ok(config) => {
            for route in &config.routes {
                assert_eq!(route.captures.len(), route.query.names().len());
                assert!(route.source < config.sources.len());
                assert!(!route.terms.ttl.is_zero() && !route.name.contains('\n'));
            }
            assert!(Routes::build(&config.routes).is_ok(), "overlaps are found when the file is read");
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(fault.line <= text.lines().count() + 1, "{fault}");
                assert!(!fault.to_string().contains('\n'), "{fault}");
            }
        }
    }
    if let Ok(query) = Query::parse(text) {
        let sql = query.sql();
        for number in 1..=query.names().len() {
            assert!(sql.contains(&format!("${number}")));
        }
    }
    let _ = Target::parse(text);
});
