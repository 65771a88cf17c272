//! The matcher: which of many key templates a key belongs to, and where its captures lie.
//!
//! A tree whose edges are `:`-separated segments, so the position in the key is given by the depth and every node is
//! visited at most once. A key of no route usually fails at the first segment's hash. Templates that share a key are
//! refused when the matcher is built, so the order of the branches does not matter. Knows nothing of routes.

use super::template::{Captures, Mixed, ROUTED_KEY_BYTES_MAX, Segment, Template};
use hashbrown::HashMap;
use std::cmp::Ordering;

/// Two templates that share a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Index of the earlier template.
    pub first: usize,
    /// Index of the later template.
    pub second: usize,
    /// A key that both match.
    pub key: Vec<u8>,
}

/// A set of templates without overlaps, compiled. Indexes are those of the slice it was built from.
#[derive(Debug, Default)]
pub struct Matcher {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>,
    capture: Option<u32>,
    mixed: Mixes,
    /// The template that ends here.
    route: Option<usize>,
    /// The template that takes all that is left.
    rest: Option<usize>,
}

impl Matcher {
    /// Compiles `templates`; refuses every pair that shares a key. An index of `None` is left out.
    pub fn build(templates: &[Option<&Template>]) -> Result<Matcher, Vec<Overlap>> {
        let overlaps = overlaps(templates);
        if !overlaps.is_empty() {
            return Err(overlaps);
        }
        let mut matcher = Matcher { nodes: vec![Node::default()] };
        for (index, template) in templates.iter().enumerate() {
            if let Some(template) = template {
                matcher.insert(index, template.segments());
            }
        }
        for node in &mut matcher.nodes {
            node.mixed.seal_all();
        }
        Ok(matcher)
    }

    fn insert(&mut self, index: usize, segments: &[Segment]) {
        let mut at = 0;
        for segment in segments {
            let next = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let child = match segment {
                Segment::Rest => {
                    node.rest = Some(index);
                    return;
                }
                Segment::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
                Segment::Capture => *node.capture.get_or_insert(next),
                Segment::Mixed(mixed) => node.mixed.child(mixed, next),
            };
            if child == next {
                self.nodes.push(Node::default());
            }
            at = child as usize;
        }
        self.nodes[at].route = Some(index);
    }

    /// The template that `key` belongs to, and its captures.
    pub fn find(&self, key: &[u8]) -> Option<(usize, Captures)> {
        if key.len() > ROUTED_KEY_BYTES_MAX {
            return None;
        }
        let root = self.nodes.first()?;
        let mut captures = Captures::empty();
        let route = self.walk(root, key, Some(0), &mut captures)?;
        Some((route, captures))
    }

    /// `at` is where the next segment begins, or `None` past the last.
    fn walk(&self, node: &Node, key: &[u8], at: Option<usize>, captures: &mut Captures) -> Option<usize> {
        let Some(start) = at else { return node.route };
        let end = memchr::memchr(b':', &key[start..]).map_or(key.len(), |offset| start + offset);
        let next = (end < key.len()).then_some(end + 1);
        let segment = &key[start..end];
        let kept = captures.len();
        if !node.literals.is_empty()
            && let Some(child) = node.literals.get(segment)
            && let Some(route) = self.walk(&self.nodes[*child as usize], key, next, captures)
        {
            return Some(route);
        }
        if let Some(child) = node.capture
            && !segment.is_empty()
        {
            captures.truncate(kept);
            captures.push(start, end);
            if let Some(route) = self.walk(&self.nodes[child as usize], key, next, captures) {
                return Some(route);
            }
        }
        for (mixed, child) in node.mixed.candidates(segment) {
            captures.truncate(kept);
            if mixed.find(segment, start, captures)
                && let Some(route) = self.walk(&self.nodes[*child as usize], key, next, captures)
            {
                return Some(route);
            }
        }
        captures.truncate(kept);
        let rest = node.rest.filter(|_| start < key.len())?;
        captures.push(start, key.len());
        Some(rest)
    }
}

/// All pairs that share a key, in the order of the templates.
fn overlaps(templates: &[Option<&Template>]) -> Vec<Overlap> {
    let mut overlaps = Vec::new();
    for (second, b) in templates.iter().enumerate() {
        let Some(b) = b else { continue };
        for (first, a) in templates[..second].iter().enumerate() {
            if let Some(key) = a.and_then(|a| a.common_key(b)) {
                overlaps.push(Overlap { first, second, key });
            }
        }
    }
    overlaps
}

/// Mixed segments by the text they begin with, and among those by the text they end in.
type Mixes = Ends<false, Ends<true, Vec<(Mixed, u32)>>>;

impl Mixes {
    /// The child for `mixed`, which is `next` where there is none yet.
    fn child(&mut self, mixed: &Mixed, next: u32) -> u32 {
        let patterns = self.entry(&mixed.prefix).entry(&mixed.suffix);
        if let Some((_, child)) = patterns.iter().find(|(known, _)| known == mixed) {
            return *child;
        }
        patterns.push((mixed.clone(), next));
        next
    }

    /// Makes ready for lookups, once all are there.
    fn seal_all(&mut self) {
        self.seal();
        self.groups.iter_mut().for_each(|group| group.value.seal());
    }

    /// The patterns that `segment` may match: those whose prefix and suffix it has.
    fn candidates(&self, segment: &[u8]) -> impl Iterator<Item = &(Mixed, u32)> {
        self.found_in(segment).flat_map(move |by_suffix| by_suffix.found_in(segment)).flatten()
    }
}

/// Values by texts that other texts begin with (or, `BACKWARD`, end in): all that a given text has are found by one
/// binary search, however many there are.
#[derive(Debug, Default)]
struct Ends<const BACKWARD: bool, T> {
    /// Sorted by text, read in the direction.
    groups: Vec<Group<T>>,
}

#[derive(Debug)]
struct Group<T> {
    text: Box<[u8]>,
    /// The longest other group whose text this one's begins with.
    shorter: Option<u32>,
    value: T,
}

impl<const BACKWARD: bool, T: Default> Ends<BACKWARD, T> {
    fn order(a: &[u8], b: &[u8]) -> Ordering {
        if BACKWARD { a.iter().rev().cmp(b.iter().rev()) } else { a.cmp(b) }
    }

    fn has(text: &[u8], end: &[u8]) -> bool {
        if BACKWARD { text.ends_with(end) } else { text.starts_with(end) }
    }

    fn entry(&mut self, text: &[u8]) -> &mut T {
        let place = match self.groups.binary_search_by(|group| Self::order(&group.text, text)) {
            Ok(place) => place,
            Err(place) => {
                self.groups.insert(place, Group { text: text.into(), shorter: None, value: T::default() });
                place
            }
        };
        &mut self.groups[place].value
    }

    /// Links each group to the next shorter one.
    fn seal(&mut self) {
        for index in 1..self.groups.len() {
            let (before, rest) = self.groups.split_at_mut(index);
            let group = &mut rest[0];
            let mut shorter = Some(index as u32 - 1);
            while let Some(candidate) = shorter {
                let candidate = &before[candidate as usize];
                if Self::has(&group.text, &candidate.text) {
                    break;
                }
                shorter = candidate.shorter;
            }
            group.shorter = shorter;
        }
    }

    /// The values whose text `whole` begins with. The greatest text not above `whole` begins with each of them, so
    /// they all lie on its chain.
    fn found_in(&self, whole: &[u8]) -> impl Iterator<Item = &T> {
        let above = self.groups.partition_point(|group| Self::order(&group.text, whole) != Ordering::Greater);
        let group = |index: u32| &self.groups[index as usize];
        let first = above.checked_sub(1).map(|index| group(index as u32));
        std::iter::successors(first, move |current| current.shorter.map(group))
            .filter(move |candidate| Self::has(whole, &candidate.text))
            .map(|candidate| &candidate.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(texts: &[&str]) -> (Vec<Template>, Result<Matcher, Vec<Overlap>>) {
        let templates: Vec<Template> = texts.iter().map(|text| Template::parse(text).unwrap()).collect();
        let matcher = Matcher::build(&templates.iter().map(Some).collect::<Vec<_>>());
        (templates, matcher)
    }

    fn find(texts: &[&str], key: &str) -> Option<(usize, Vec<String>)> {
        let matcher = build(texts).1.expect("no overlap");
        let (route, captures) = matcher.find(key.as_bytes())?;
        let values = (0..captures.len()).map(|index| captures.get(key.as_bytes(), index));
        Some((route, values.map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()))
    }

    fn found(route: usize, values: &[&str]) -> Option<(usize, Vec<String>)> {
        Some((route, values.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn matches_whole_keys_only() {
        let texts = ["user:{id}", "user:{id}:orders", "tenant:{t}:user:{id}", "file:{path:*}", "settings"];
        assert_eq!(find(&texts, "user:7"), found(0, &["7"]));
        assert_eq!(find(&texts, "user:7:orders"), found(1, &["7"]));
        assert_eq!(find(&texts, "tenant:a:user:b"), found(2, &["a", "b"]));
        assert_eq!(find(&texts, "file:a:b:"), found(3, &["a:b:"]));
        assert_eq!(find(&texts, "settings"), found(4, &[]));
        for miss in ["", "user", "user:", "user:7:", "user:7:8", "user::orders", "file:", "file", "settings:", "x"] {
            assert_eq!(find(&texts, miss), None, "{miss}");
        }
    }

    #[test]
    fn backs_out_of_a_branch_that_fails_later() {
        let texts = ["user:me:a", "user:{id}:b", "user:m{x}:c", "user:{a}-{b}:d", "user:{p}:{q}:{rest:*}"];
        assert_eq!(find(&texts, "user:me:b"), found(1, &["me"]));
        assert_eq!(find(&texts, "user:me:c"), found(2, &["e"]));
        assert_eq!(find(&texts, "user:x-y-z:d"), found(3, &["x", "y-z"]));
        assert_eq!(find(&texts, "user:me:a:z"), found(4, &["me", "a", "z"]));
        assert_eq!(find(&texts, "user:me:d"), None);
    }

    #[test]
    fn prefixes_chain_to_shorter_ones() {
        let texts = ["{x}.a", "u{x}.b", "us{x}.c", "use{x}.d", "ut{x}.e"];
        for (index, key) in ["user.a", "user.b", "user.c", "user.d", "utah.e"].iter().enumerate() {
            assert_eq!(find(&texts, key).map(|(route, _)| route), Some(index), "{key}");
        }
        assert_eq!(find(&texts, "use.d"), None);
        let texts = ["a{x}:v", "{x}b:z", "{x}.b:w", "{x}cb:y", "b{x}dcb"];
        for (index, key) in ["ab:v", "ccb:z", "c.b:w", "ccb:y", "bedcb"].iter().enumerate() {
            assert_eq!(find(&texts, key).map(|(route, _)| route), Some(index), "{key}");
        }
    }

    #[test]
    fn refuses_overlaps_with_a_key_that_shows_them() {
        let (_, matcher) = build(&["user:{id}", "order:{id}", "user:me"]);
        assert_eq!(matcher.unwrap_err(), [Overlap { first: 0, second: 2, key: b"user:me".to_vec() }]);
    }

    #[test]
    fn long_keys_match_nothing() {
        let matcher = build(&["{rest:*}"]).1.unwrap();
        assert!(matcher.find(&vec![b'x'; ROUTED_KEY_BYTES_MAX]).is_some());
        assert!(matcher.find(&vec![b'x'; ROUTED_KEY_BYTES_MAX + 1]).is_none());
        assert!(Matcher::default().find(b"x").is_none());
    }

    /// The definition, tried in every way: whether `key` matches, segment by segment.
    fn matches_slowly(segments: &[Segment], key: &[u8]) -> bool {
        fn mixed(parts: &[Option<u8>], text: &[u8]) -> bool {
            match (parts, text) {
                ([], []) => true,
                ([Some(byte), rest @ ..], [first, tail @ ..]) => byte == first && mixed(rest, tail),
                ([None, rest @ ..], [_, ..]) => (1..=text.len()).any(|taken| mixed(rest, &text[taken..])),
                _ => false,
            }
        }
        let parts = |segment: &Segment| -> Vec<Option<u8>> {
            match segment {
                Segment::Literal(text) => text.iter().copied().map(Some).collect(),
                Segment::Capture | Segment::Rest => vec![None],
                Segment::Mixed(m) => {
                    let mut parts: Vec<Option<u8>> = m.prefix.iter().copied().map(Some).collect();
                    for middle in &m.middles {
                        parts.push(None);
                        parts.extend(middle.iter().copied().map(Some));
                    }
                    parts.push(None);
                    parts.extend(m.suffix.iter().copied().map(Some));
                    parts
                }
            }
        };
        let given: Vec<&[u8]> = key.split(|byte| *byte == b':').collect();
        match segments.split_last() {
            Some((Segment::Rest, front)) => {
                given.len() > front.len()
                    && front.iter().zip(&given).all(|(segment, text)| mixed(&parts(segment), text))
                    && !given[front.len()..].join(&b':').is_empty()
            }
            _ => {
                given.len() == segments.len()
                    && segments.iter().zip(&given).all(|(segment, text)| mixed(&parts(segment), text))
            }
        }
    }

    fn segment_text() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => "[ab]{0,3}",
            3 => Just("{}".to_string()),
            2 => "[ab]{0,2}\\{\\}[ab]{0,2}",
            1 => "[ab]{0,1}\\{\\}[ab]{1,2}\\{\\}[ab]{0,1}",
        ]
    }

    fn template() -> impl Strategy<Value = Template> {
        (proptest::collection::vec(segment_text(), 1..4), any::<bool>()).prop_filter_map(
            "empty",
            |(mut parts, rest)| {
                if rest {
                    parts.push("{:*}".into());
                }
                let mut text = String::new();
                for (number, piece) in parts.join(":").split('{').enumerate() {
                    if number > 0 {
                        text += &format!("{{p{number}");
                    }
                    text += piece;
                }
                Template::parse(&text).ok()
            },
        )
    }

    proptest! {
        #[test]
        fn a_found_overlap_is_real_and_a_shared_key_is_an_overlap(
            a in template(), b in template(), keys in proptest::collection::vec("[ab:]{0,8}", 20)
        ) {
            match a.common_key(&b) {
                Some(key) => {
                    prop_assert!(matches_slowly(a.segments(), &key), "{} {:?}", a.text(), String::from_utf8(key));
                    prop_assert!(matches_slowly(b.segments(), &key), "{} {:?}", b.text(), String::from_utf8(key));
                }
                None => for key in keys {
                    let key = key.as_bytes();
                    prop_assert!(!(matches_slowly(a.segments(), key) && matches_slowly(b.segments(), key)));
                }
            }
        }

        #[test]
        fn finds_what_the_definition_finds(
            templates in proptest::collection::vec(template(), 1..8),
            keys in proptest::collection::vec("[ab:]{0,8}", 20)
        ) {
            // Those that overlap an earlier one are left out, as a caller would have to.
            let mut kept: Vec<Option<&Template>> = Vec::new();
            for template in &templates {
                let clear = kept.iter().flatten().all(|other| other.common_key(template).is_none());
                kept.push(clear.then_some(template));
            }
            let matcher = Matcher::build(&kept).unwrap();
            for key in &keys {
                let expected =
                    kept.iter().position(|t| t.is_some_and(|t| matches_slowly(t.segments(), key.as_bytes())));
                let found = matcher.find(key.as_bytes());
                prop_assert_eq!(found.map(|(index, _)| index), expected, "{}", key);
                if let Some((index, captures)) = found {
                    prop_assert_eq!(captures.len(), templates[index].names().len());
                    for place in 0..captures.len() {
                        prop_assert!(!captures.get(key.as_bytes(), place).is_empty());
                    }
                }
            }
        }
    }
}
