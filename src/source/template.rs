//! Key templates: `tenant:{t}:user:{id}` read into segments, and whether two of them share a key.
//!
//! A template is split at `:`. `{name}` stands for one or more bytes other than `:`; `{name:*}`, which must be the
//! whole last segment, for one or more bytes of any kind; `{{` and `}}` for the braces themselves. Several captures in
//! one segment (`{a}-{b}`) must be set apart by text, and each takes as few bytes as it can, so a key has one reading.
//! Knows bytes only: nothing of routes, SQL or databases.

use bytes::Bytes;

/// Most captures one template may have.
pub const CAPTURES_MAX: usize = 16;
/// Longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 512;
/// Longest key that a template matches, in bytes: what a parameter may carry to the database is bounded by it.
pub const ROUTED_KEY_BYTES_MAX: usize = 4096;

/// Where the captures lie in a matched key: up to [`CAPTURES_MAX`] byte ranges, in the template's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captures {
    spans: [(u16, u16); CAPTURES_MAX],
    len: u8,
}

impl Captures {
    pub(super) const fn empty() -> Captures {
        Captures { spans: [(0, 0); CAPTURES_MAX], len: 0 }
    }

    /// How many captures there are: the template's number.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether the template has no captures.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of capture `index` in `key`, which must be the key these captures were found in.
    pub fn get<'k>(&self, key: &'k [u8], index: usize) -> &'k [u8] {
        let (start, end) = self.spans[..self.len()][index];
        &key[usize::from(start)..usize::from(end)]
    }

    /// The captured values with their key, to be carried into a load.
    pub fn params(self, key: Bytes) -> Params {
        Params { key, captures: self }
    }

    /// Notes the range `start..end`; positions are below [`ROUTED_KEY_BYTES_MAX`], so they fit.
    pub(super) fn push(&mut self, start: usize, end: usize) {
        self.spans[self.len()] = (start as u16, end as u16);
        self.len += 1;
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = len as u8;
    }
}

/// The parameters of one load: a key and the captures found in it.
#[derive(Clone, Debug)]
pub struct Params {
    key: Bytes,
    captures: Captures,
}

impl Params {
    /// The whole key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The captured bytes, by the capture's position in the template.
    pub fn get(&self, index: usize) -> &[u8] {
        self.captures.get(&self.key, index)
    }
}

/// One `:`-separated part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Exactly these bytes.
    Literal(Box<[u8]>),
    /// One capture and nothing else.
    Capture,
    /// Text and captures mixed.
    Mixed(Mixed),
    /// `{name:*}`: everything that is left, at least one byte. Always the last segment.
    Rest,
}

/// `prefix {} middles[0] {} middles[1] … {} suffix`: one capture more than middles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mixed {
    pub(super) prefix: Box<[u8]>,
    /// Never empty strings.
    pub(super) middles: Vec<Box<[u8]>>,
    pub(super) suffix: Box<[u8]>,
}

impl Mixed {
    /// Matches one segment of a key that begins at `at`, noting the captures. Leaves `captures` longer on failure.
    pub(super) fn find(&self, segment: &[u8], at: usize, captures: &mut Captures) -> bool {
        let Some(inner) = segment.strip_prefix(&*self.prefix).and_then(|rest| rest.strip_suffix(&*self.suffix)) else {
            return false;
        };
        let (mut rest, mut at) = (inner, at + self.prefix.len());
        for middle in &self.middles {
            // The leftmost place that leaves the capture a byte: whatever follows then has the most room.
            let Some(found) = rest.get(1..).and_then(|tail| first(tail, middle)) else { return false };
            captures.push(at, at + 1 + found);
            at += 1 + found + middle.len();
            rest = &rest[1 + found + middle.len()..];
        }
        captures.push(at, at + rest.len());
        !rest.is_empty()
    }
}

fn first(text: &[u8], wanted: &[u8]) -> Option<usize> {
    match wanted {
        // By far the most common, and several times faster.
        [byte] => memchr::memchr(*byte, text),
        _ => memchr::memmem::find(text, wanted),
    }
}

/// A key template, checked.
#[derive(Clone, Debug)]
pub struct Template {
    text: Box<str>,
    names: Vec<Box<str>>,
    segments: Vec<Segment>,
}

/// A piece of a template between its braces.
enum Piece {
    Byte(u8),
    Capture,
    Rest,
}

impl Template {
    /// Reads a template; the error says what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Template, String> {
        if text.is_empty() {
            return Err("the key template is empty; write one such as \"user:{id}\"".into());
        }
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("the key template is longer than {TEMPLATE_BYTES_MAX} bytes"));
        }
        let mut names = Vec::new();
        let pieces = pieces(text, &mut names)?;
        let segments = pieces
            .split(|piece| matches!(piece, Piece::Byte(b':')))
            .map(segment)
            .collect::<Result<Vec<Segment>, String>>()?;
        if segments.iter().rev().skip(1).any(|segment| *segment == Segment::Rest) {
            return Err("a {name:*} capture must be the last thing in the key template".into());
        }
        Ok(Template { text: text.into(), names, segments })
    }

    /// The template as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The captures' names, in order.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What every key of it begins with: all before the first capture.
    pub fn head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        for (index, segment) in self.segments.iter().enumerate() {
            separate(&mut head, index);
            match segment {
                Segment::Literal(text) => head.extend_from_slice(text),
                Segment::Mixed(mixed) => {
                    head.extend_from_slice(&mixed.prefix);
                    break;
                }
                Segment::Capture | Segment::Rest => break,
            }
        }
        head
    }

    /// The key with these values for its captures, in their order; None where their number is wrong. Whether the key
    /// reads back as these values is for the caller to see: one with a `:` in it does not.
    pub fn render(&self, values: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
        if values.len() != self.names.len() {
            return None;
        }
        let mut values = values.iter().map(AsRef::as_ref);
        let mut key = Vec::with_capacity(64);
        for (index, segment) in self.segments.iter().enumerate() {
            separate(&mut key, index);
            match segment {
                Segment::Literal(text) => key.extend_from_slice(text),
                Segment::Capture | Segment::Rest => key.extend_from_slice(values.next()?),
                Segment::Mixed(mixed) => {
                    key.extend_from_slice(&mixed.prefix);
                    for middle in &mixed.middles {
                        key.extend_from_slice(values.next()?);
                        key.extend_from_slice(middle);
                    }
                    key.extend_from_slice(values.next()?);
                    key.extend_from_slice(&mixed.suffix);
                }
            }
        }
        Some(key)
    }

    /// A key that both templates match, if there is one.
    pub fn common_key(&self, other: &Template) -> Option<Vec<u8>> {
        let (mut a, mut b) = (&self.segments[..], &other.segments[..]);
        let mut key = Vec::new();
        loop {
            match (a, b) {
                ([], []) => return Some(key),
                ([], _) | (_, []) => return None,
                ([Segment::Rest], rest) | (rest, [Segment::Rest]) => {
                    let sample = sample(rest);
                    separate(&mut key, self.segments.len() - a.len());
                    key.extend_from_slice(&sample);
                    return (!sample.is_empty()).then_some(key);
                }
                ([x, a_rest @ ..], [y, b_rest @ ..]) => {
                    separate(&mut key, self.segments.len() - a.len());
                    key.extend_from_slice(&common_segment(x, y)?);
                    (a, b) = (a_rest, b_rest);
                }
            }
        }
    }
}

fn separate(key: &mut Vec<u8>, index: usize) {
    if index > 0 {
        key.push(b':');
    }
}

/// Reads braces; what is between them goes to `names`.
fn pieces(text: &str, names: &mut Vec<Box<str>>) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'{', Some(b'{')) | (b'}', Some(b'}')) => {
                pieces.push(Piece::Byte(bytes[at]));
                at += 2;
            }
            (b'}', _) => return Err("a \"}\" without its \"{\"; write \"}}\" for the brace itself".into()),
            (b'{', _) => {
                let Some(end) = text[at..].find('}').map(|offset| at + offset) else {
                    return Err("a \"{\" without its \"}\"; write \"{{\" for the brace itself".into());
                };
                pieces.push(capture(&text[at + 1..end], names)?);
                at = end + 1;
            }
            (byte, _) => {
                pieces.push(Piece::Byte(byte));
                at += 1;
            }
        }
    }
    Ok(pieces)
}

fn capture(inside: &str, names: &mut Vec<Box<str>>) -> Result<Piece, String> {
    let (name, piece) = match inside.strip_suffix(":*") {
        Some(name) => (name, Piece::Rest),
        None => (inside, Piece::Capture),
    };
    if !is_name(name) {
        return Err(format!(
            "{{{inside}}} is not a capture; a name is a letter or \"_\" followed by letters, digits or \"_\", \
             as in {{id}}, or {{rest:*}} for all that is left of the key"
        ));
    }
    if names.iter().any(|known| **known == *name) {
        return Err(format!("the capture {{{name}}} appears twice; give each its own name"));
    }
    if names.len() == CAPTURES_MAX {
        return Err(format!("more than {CAPTURES_MAX} captures in one key template"));
    }
    names.push(name.into());
    Ok(piece)
}

/// Whether `name` may name a capture.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn segment(pieces: &[Piece]) -> Result<Segment, String> {
    match pieces {
        [Piece::Capture] => return Ok(Segment::Capture),
        [Piece::Rest] => return Ok(Segment::Rest),
        _ => {}
    }
    if pieces.iter().any(|piece| matches!(piece, Piece::Rest)) {
        return Err("a {name:*} capture must stand alone after a \":\", or be the whole template".into());
    }
    // The texts before, between and after the captures.
    let mut texts: Vec<Box<[u8]>> = pieces
        .split(|piece| matches!(piece, Piece::Capture))
        .map(|text| text.iter().filter_map(|piece| if let Piece::Byte(byte) = piece { Some(*byte) } else { None }))
        .map(Iterator::collect)
        .collect();
    let suffix = texts.pop().unwrap_or_default();
    if texts.is_empty() {
        return Ok(Segment::Literal(suffix));
    }
    let prefix = texts.remove(0);
    if texts.iter().any(|middle| middle.is_empty()) {
        return Err("two captures touch each other; put text between them, as in {a}:{b}".into());
    }
    Ok(Segment::Mixed(Mixed { prefix, middles: texts, suffix }))
}

/// Some text that the segments match (possibly empty, where they are one empty literal).
fn sample(segments: &[Segment]) -> Vec<u8> {
    let mut text = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        separate(&mut text, index);
        match segment {
            Segment::Literal(literal) => text.extend_from_slice(literal),
            Segment::Capture | Segment::Rest => text.push(b'x'),
            Segment::Mixed(mixed) => {
                text.extend_from_slice(&mixed.prefix);
                for middle in &mixed.middles {
                    text.push(b'x');
                    text.extend_from_slice(middle);
                }
                text.push(b'x');
                text.extend_from_slice(&mixed.suffix);
            }
        }
    }
    text
}

/// Some text that both segments match.
fn common_segment(a: &Segment, b: &Segment) -> Option<Vec<u8>> {
    match (a, b) {
        (Segment::Literal(x), Segment::Literal(y)) => (x == y).then(|| x.to_vec()),
        (Segment::Mixed(x), Segment::Mixed(y)) if !ends_agree(&x.prefix, &y.prefix, &x.suffix, &y.suffix) => None,
        _ => {
            let (a, b) = (marks(a), marks(b));
            let mut failed = vec![false; (a.len() + 1) * (b.len() + 1)];
            let mut text = Vec::new();
            walk(&a, &b, &mut failed, b.len() + 1, &mut text).then_some(text)
        }
    }
}

/// Whether prefixes and suffixes leave two mixed segments a chance: most pairs are told apart here.
fn ends_agree(prefix_a: &[u8], prefix_b: &[u8], suffix_a: &[u8], suffix_b: &[u8]) -> bool {
    (prefix_a.starts_with(prefix_b) || prefix_b.starts_with(prefix_a))
        && (suffix_a.ends_with(suffix_b) || suffix_b.ends_with(suffix_a))
}

/// A segment as a sequence to walk through: a byte, any byte, or any number of bytes.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Byte(u8),
    Any,
    Many,
}

fn marks(segment: &Segment) -> Vec<Mark> {
    let bytes = |text: &[u8]| text.iter().map(|byte| Mark::Byte(*byte)).collect::<Vec<_>>();
    match segment {
        Segment::Literal(text) => bytes(text),
        Segment::Capture | Segment::Rest => vec![Mark::Any, Mark::Many],
        Segment::Mixed(mixed) => {
            let mut marks = bytes(&mixed.prefix);
            for middle in &mixed.middles {
                marks.extend([Mark::Any, Mark::Many]);
                marks.extend(bytes(middle));
            }
            marks.extend([Mark::Any, Mark::Many]);
            marks.extend(bytes(&mixed.suffix));
            marks
        }
    }
}

/// Searches a text that both sequences match; `failed` remembers pairs of places from which none leads to the end.
fn walk(a: &[Mark], b: &[Mark], failed: &mut [bool], row: usize, text: &mut Vec<u8>) -> bool {
    if a.is_empty() && b.is_empty() {
        return true;
    }
    let place = a.len() * row + b.len();
    if failed[place] {
        return false;
    }
    let found = (a.first() == Some(&Mark::Many) && walk(&a[1..], b, failed, row, text))
        || (b.first() == Some(&Mark::Many) && walk(a, &b[1..], failed, row, text))
        || step(a, b, failed, row, text);
    failed[place] = !found;
    found
}

/// Takes one byte that both sequences allow.
fn step(a: &[Mark], b: &[Mark], failed: &mut [bool], row: usize, text: &mut Vec<u8>) -> bool {
    let (Some(x), Some(y)) = (a.first(), b.first()) else { return false };
    let byte = match (x, y) {
        (Mark::Byte(p), Mark::Byte(q)) if p != q => return false,
        (Mark::Byte(p), _) | (_, Mark::Byte(p)) => *p,
        // Two open ends: one of them was tried as finished above, and that is never worse.
        (Mark::Many, Mark::Many) => return false,
        _ => b'x',
    };
    let after = |marks: &[Mark]| usize::from(marks[0] != Mark::Many);
    text.push(byte);
    let found = walk(&a[after(a)..], &b[after(b)..], failed, row, text);
    if !found {
        text.pop();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Template::parse(text).expect_err(text)
    }

    #[test]
    fn reads_names_and_braces() {
        let template = Template::parse("tenant:{t}:a{{b}}:img-{w}x{h}.png:{rest:*}").unwrap();
        let names: Vec<&str> = template.names().iter().map(|name| &**name).collect();
        assert_eq!(names, ["t", "w", "h", "rest"]);
        assert_eq!(template.segments()[2], Segment::Literal((*b"a{b}").into()));
    }

    #[test]
    fn a_head_is_all_before_the_first_capture() {
        for (text, head) in [("a:b", "a:b"), ("user:{id}:x", "user:"), ("{a}:b", ""), ("t:img-{w}.png", "t:img-")] {
            assert_eq!(Template::parse(text).unwrap().head(), head.as_bytes(), "{text}");
        }
    }

    #[test]
    fn refuses_with_reasons() {
        assert!(fault("").contains("empty"));
        assert!(fault("user:{id").contains("without its \"}\""));
        assert!(fault("user:id}").contains("without its \"{\""));
        assert!(fault("user:{}").contains("not a capture"));
        assert!(fault("user:{1d}").contains("not a capture"));
        assert!(fault("user:{id:int}").contains("not a capture"));
        assert!(fault("user:{a}{b}").contains("touch"));
        assert!(fault("user:{a}:{a}").contains("twice"));
        assert!(fault("{r:*}:x").contains("last"));
        assert!(fault("user:x{r:*}").contains("alone"));
        assert!(fault(&"x".repeat(513)).contains("512"));
        let many: Vec<String> = (0..17).map(|n| format!("{{p{n}}}")).collect();
        assert!(fault(&many.join(":")).contains("16"));
    }

    #[test]
    fn finds_the_common_key_or_none() {
        let common = |a: &str, b: &str| {
            let (a, b) = (Template::parse(a).unwrap(), Template::parse(b).unwrap());
            let forward = a.common_key(&b);
            assert_eq!(forward.is_some(), b.common_key(&a).is_some());
            forward.map(|key| String::from_utf8(key).unwrap())
        };
        assert_eq!(common("user:{id}", "user:me").as_deref(), Some("user:me"));
        assert_eq!(common("user:{id}", "user:{name}").as_deref(), Some("user:x"));
        assert_eq!(common("user:{id}", "user:{id}:x"), None);
        assert_eq!(common("user:{id}", "order:{id}"), None);
        assert!(common("a-{x}", "{x}-b").is_some());
        assert_eq!(common("{x}.png", "{x}.jpg"), None);
        assert_eq!(common("a:{r:*}", "a:"), None);
        assert_eq!(common("a:{r:*}", "a::").as_deref(), Some("a::"));
        assert_eq!(common("a:{r:*}", "a"), None);
        assert_eq!(common("{r:*}", "a:{x}:c").as_deref(), Some("a:x:c"));
        assert_eq!(common("a:{r:*}", "{x}:{y:*}").as_deref(), Some("a:x"));
    }
}
