//! Redis's glob patterns (`KEYS`, `SCAN MATCH`, `PSUBSCRIBE`, `CONFIG GET`): does a text match?
//! It knows bytes only, neither keys nor channels nor directives.
//!
//! `*` any run of bytes, `?` one byte, `[a-z]` `[^a-z]` one byte of a class, `\x` the byte x.
//! Each element but `*` takes exactly one byte, so only the last `*` ever needs to be retried:
//! the cost is at most pattern × text steps, whatever the pattern (`a*a*a*a*b` is no trap).

/// Whether the whole of `text` matches `pattern`; `nocase` ignores the case of ASCII letters.
///
/// Odd patterns mean what they mean in Redis: an unclosed `[` ends with the pattern, `[]` matches
/// nothing, `[^]` any byte, a range may be written backwards, a final `\` is a backslash.
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    if text.is_empty() {
        // `*` alone is all that Redis lets match the empty text, and that only where a command looks for it.
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Where to resume after a mismatch: behind the last `*`, with that `*` one byte longer.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            if p == pattern.len() {
                return true;
            }
            retry = Some((p, t));
            continue;
        }
        match element(pattern, p, text[t], nocase) {
            Some(next) => {
                p = next;
                t += 1;
            }
            None => match retry {
                Some((star, from)) => {
                    p = star;
                    t = from + 1;
                    retry = Some((star, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Whether `pattern` is a plain name, which can match only itself.
pub fn is_literal(pattern: &[u8]) -> bool {
    memchr::memchr3(b'*', b'?', b'[', pattern).is_none() && !pattern.contains(&b'\\')
}

/// Matches the element at `p` against one byte: the position behind the element, or None.
fn element(pattern: &[u8], p: usize, byte: u8, nocase: bool) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => {
            let (hit, next) = class(pattern, p + 1, byte, nocase);
            hit.then_some(next)
        }
        b'\\' if p + 1 < pattern.len() => same(pattern[p + 1], byte, nocase).then_some(p + 2),
        literal => same(literal, byte, nocase).then_some(p + 1),
    }
}

/// Matches a class whose `[` stands before `p`: whether `byte` is in it, and where it ends.
fn class(pattern: &[u8], mut p: usize, byte: u8, nocase: bool) -> (bool, usize) {
    let negated = pattern.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let mut hit = false;
    while p < pattern.len() {
        match pattern[p] {
            b']' => return (hit != negated, p + 1),
            b'\\' if p + 1 < pattern.len() => {
                hit |= same(pattern[p + 1], byte, nocase);
                p += 2;
            }
            low if pattern.len() - p >= 3 && pattern[p + 1] == b'-' => {
                hit |= within(low, pattern[p + 2], byte, nocase);
                p += 3;
            }
            one => {
                hit |= same(one, byte, nocase);
                p += 1;
            }
        }
    }
    (hit != negated, p)
}

fn same(a: u8, b: u8, nocase: bool) -> bool {
    a == b || nocase && a.eq_ignore_ascii_case(&b)
}

fn within(one: u8, other: u8, byte: u8, nocase: bool) -> bool {
    let fold = |b: u8| if nocase { b.to_ascii_lowercase() } else { b };
    // Ordered before folding, as in Redis.
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    (fold(low)..=fold(high)).contains(&fold(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), false)
    }

    #[test]
    fn stars_and_question_marks() {
        assert!(!hit("*", "") && !hit("**", "") && hit("", ""), "the empty text, as in Redis");
        assert!(hit("user:*", "user:") && hit("user:*", "user:7"));
        assert!(hit("*ab*cd*", "xxabyyabzcdw"));
        assert!(!hit("?", "") && hit("?", "x") && !hit("?", "xy"));
        assert!(!hit("", "x") && !hit("a", "ab") && !hit("ab", "a"));
        assert!(hit("a**b", "ab") && hit("h*llo", "hello") && !hit("h*llo", "hell"));
    }

    #[test]
    fn classes() {
        assert!(hit("h[ae]llo", "hello") && !hit("h[ae]llo", "hillo"));
        assert!(hit("h[^e]llo", "hallo") && !hit("h[^e]llo", "hello"));
        assert!(hit("[a-c]", "b") && hit("[c-a]", "b") && !hit("[a-c]", "d"));
        assert!(hit("[\\]]", "]") && hit("[a\\-c]", "-") && !hit("[a\\-c]", "b"));
        assert!(!hit("[]", "a") && hit("[^]", "a"));
        assert!(hit("[ab", "a") && hit("[ab", "b") && !hit("[ab", "["));
        assert!(!hit("[", "a") && hit("[^", "a"));
    }

    #[test]
    fn escapes() {
        assert!(hit("\\*", "*") && !hit("\\*", "x"));
        assert!(hit("a\\", "a\\") && !hit("a\\", "a"));
        assert!(hit("\\a", "a"));
    }

    #[test]
    fn case() {
        assert!(matches(b"MAX*", b"maxmemory", true));
        assert!(matches(b"[A-C]x", b"bX", true));
        assert!(!matches(b"MAX*", b"maxmemory", false));
    }

    /// A backtracking matcher needs more steps here than there are atoms in the universe.
    #[test]
    fn many_stars_are_no_trap() {
        let pattern = "a*".repeat(500) + "b";
        let text = "a".repeat(5000);
        assert!(!hit(&pattern, &text));
        assert!(hit(&pattern, &(text + "b")));
    }
}
