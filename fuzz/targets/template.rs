//! Key templates: the matcher of several agrees with the matchers of one, an overlap that is found is real, and
//! captures lie within the key.
//!
//! The first lines of the input are templates, the last ones keys.
#![no_main]

use cenote::source::{Captures, Matcher, Template};
use libfuzzer_sys::fuzz_target;

const TEMPLATES_MAX: usize = 4;

fn alone(template: &Template) -> Matcher {
    Matcher::build(&[Some(template)]).expect("one template overlaps nothing")
}

fn check(template: &Template, key: &[u8], captures: Captures) {
    assert_eq!(captures.len(), template.names().len());
    let values: Vec<&[u8]> = (0..captures.len()).map(|at| captures.get(key, at)).collect();
    assert!(values.iter().all(|value| !value.is_empty()));
    assert!(values.iter().map(|value| value.len()).sum::<usize>() <= key.len());
}

fuzz_target!(|data: &[u8]| {
    let (mut templates, mut keys) = (Vec::new(), Vec::new());
    for line in data.split(|byte| *byte == b'\n') {
        match std::str::from_utf8(line).map(Template::parse) {
            Ok(Ok(template)) if templates.len() < TEMPLATES_MAX => {
                assert_eq!(template.text().as_bytes(), line);
                templates.push(template);
            }
            _ => keys.push(line),
        }
    }
    let mut clear: Vec<Option<&Template>> = Vec::new();
    for (at, template) in templates.iter().enumerate() {
        let mut overlaps = false;
        for other in clear.iter().flatten() {
            let found = other.common_key(template);
            assert_eq!(found.is_some(), template.common_key(other).is_some());
            assert_eq!(found.is_some(), Matcher::build(&[Some(other), Some(template)]).is_err());
            if let Some(key) = found {
                overlaps = true;
                assert!(alone(other).find(&key).is_some() && alone(template).find(&key).is_some());
            }
        }
        clear.push((!overlaps).then_some(&templates[at]));
    }
    let together = Matcher::build(&clear).expect("those that overlap were left out");
    for key in keys {
        let found = together.find(key);
        if let Some((at, captures)) = found {
            check(&templates[at], key, captures);
        }
        for (at, template) in clear.iter().enumerate() {
            let matches = template.is_some_and(|template| alone(template).find(key).is_some());
            assert_eq!(matches, found.is_some_and(|(index, _)| index == at));
        }
    }
});
