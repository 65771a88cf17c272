//! SORT and SORT_RO: the elements of a list, set or sorted set in another order, weighed and replaced by what other keys
//! hold. Patterns name those keys, so a command that has any runs with all shards locked.

use super::{Acl, Args, Begin, Fill, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec};
use super::{c_text, fail, wrong_type};
use crate::keyspace::{Event, NewValue, Ttl, Value, View, class};
use crate::number::parse_double;
use crate::protocol::Reply;
use crate::types::{Collection, Element, End, Item, List, ObjectRef};
use std::cmp::Ordering;
use std::ops::Range;

const ACCESS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const SORTED: KeySpec = KeySpec::one(1, ACCESS);
/// What BY and GET name.
const NAMED: KeySpec = KeySpec { begin: Begin::Nowhere, ..SORTED };
const STORE: KeySpec = KeySpec {
    flags: KeyFlags::OW.or(KeyFlags::UPDATE),
    begin: Begin::Sought("STORE", |args| Query::parse(args, true, true).ok()?.store),
    ..SORTED
};

const SORT: Spec = Spec {
    name: "sort",
    arity: -2,
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::MOVABLEKEYS),
    acl: Acl::SET.or(Acl::SORTEDSET).or(Acl::LIST).or(Acl::DANGEROUS),
    keys: Keys::Reaching(&[SORTED, NAMED, STORE], has_patterns),
    fill: Fill::Before,
    syntax: "key [BY by-pattern] [LIMIT offset count] [GET get-pattern [GET get-pattern ...]] [ASC | DESC] [ALPHA] \
        [STORE destination]",
    complexity: "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of \
        returned elements. When the elements are not sorted, complexity is O(N).",
    summary: "Returns the elements of a list, set or sorted set in order, or stores them at another key.",
    run: Run::Data(|db, args, reply| sort(db, args, reply, true)),
    ..Spec::BASE
};

pub(super) const COMMANDS: &[Spec] = &[
    SORT,
    Spec {
        name: "sort_ro",
        flags: Flags::READONLY.or(Flags::MOVABLEKEYS),
        keys: Keys::Reaching(&[SORTED, NAMED], has_patterns),
        fill: Fill::Read,
        since: "7.0.0",
        syntax: "key [BY by-pattern] [LIMIT offset count] [GET get-pattern [GET get-pattern ...]] [ASC | DESC] [ALPHA]",
        summary: "Returns the elements of a list, set or sorted set in order.",
        run: Run::Data(|db, args, reply| sort(db, args, reply, false)),
        ..SORT
    },
];

/// What a reply or a stored list may grow to by GET, in bytes.
const RESULT_MAX: usize = 1 << 30;
const OUT_OF_RANGE: &str = "ERR value is out of range";
const BY_DENIED: &str = "ERR BY option of SORT denied due to insufficient ACL permissions.";
const GET_DENIED: &str = "ERR GET option of SORT denied due to insufficient ACL permissions.";
const NO_NUMBER: &str = "ERR One or more scores can't be converted into double";

/// True if keys may be reached that are not among the arguments: a pattern with a `*` follows BY or GET.
fn has_patterns(args: &Args<'_>) -> bool {
    (3..args.len())
        .any(|index| (args.is(index - 1, "by") || args.is(index - 1, "get")) && args.at(index).contains(&b'*'))
}

/// What is asked for beyond the key.
struct Query<'a> {
    by: Option<&'a [u8]>,
    /// Offset and count; a negative count is all.
    limit: (i64, i64),
    gets: Vec<&'a [u8]>,
    descending: bool,
    alpha: bool,
    /// The argument that names where to store.
    store: Option<usize>,
}

impl<'a> Query<'a> {
    /// `may_reach`: the user may read keys that patterns name.
    fn parse(args: &Args<'a>, may_store: bool, may_reach: bool) -> Result<Self, &'static str> {
        let mut query =
            Self { by: None, limit: (0, -1), gets: Vec::new(), descending: false, alpha: false, store: None };
        let mut index = 2;
        while index < args.len() {
            let left = args.len() - index - 1;
            let is_denied = !may_reach && args.get(index + 1).is_some_and(|pattern| pattern.contains(&b'*'));
            match () {
                () if args.is(index, "asc") => query.descending = false,
                () if args.is(index, "desc") => query.descending = true,
                () if args.is(index, "alpha") => query.alpha = true,
                () if args.is(index, "limit") && left >= 2 => {
                    let number = |index| args.integer(index).ok_or(NOT_AN_INTEGER);
                    query.limit = (number(index + 1)?, number(index + 2)?);
                    index += 2;
                }
                () if args.is(index, "store") && left >= 1 && may_store => {
                    query.store = Some(index + 1);
                    index += 1;
                }
                () if args.is(index, "by") && left >= 1 && is_denied => return Err(BY_DENIED),
                () if args.is(index, "by") && left >= 1 => {
                    query.by = Some(args.at(index + 1));
                    index += 1;
                }
                () if args.is(index, "get") && left >= 1 && is_denied => return Err(GET_DENIED),
                () if args.is(index, "get") && left >= 1 => {
                    query.gets.push(args.at(index + 1));
                    index += 1;
                }
                () => return Err(SYNTAX_ERROR),
            }
            index += 1;
        }
        Ok(query)
    }

    /// True if the elements stay in their order: BY without a place for them in the pattern.
    fn keeps_order(&self) -> bool {
        self.by.is_some_and(|by| !by.contains(&b'*'))
    }

    /// Which of so many elements are wanted.
    fn window(&self, len: usize) -> Range<usize> {
        let (offset, count) = self.limit;
        let start = usize::try_from(offset).unwrap_or(0).min(len);
        match usize::try_from(count) {
            Ok(count) => start..start.saturating_add(count).min(len),
            Err(_) => start..len,
        }
    }
}

/// Texts one behind the other.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    fn at(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

/// The elements at the command's key, in their order, or from the end; None for a value of another type. Those that
/// are not in `only` are left out.
fn elements(db: &mut View<'_, '_>, only: impl Fn(usize) -> Range<usize>, from_end: bool) -> Option<Texts> {
    let mut texts = Texts::default();
    let place = if db.read_any(0) { db.find(0) } else { None };
    let Some(place) = place else { return Some(texts) };
    let mut digits = itoa::Buffer::new();
    match db.entry(0, place).value() {
        Value::Object(ObjectRef::List(list)) => {
            let Range { start, end } = only(list.len());
            let range = if from_end { list.len() - end..list.len() - start } else { start..end };
            list.each(range, |element| match element {
                Element::Item(item) => texts.push(item.bytes(&mut digits)),
                Element::Large(bytes) => texts.push(bytes),
            });
            if from_end {
                texts = (0..texts.len()).rev().fold(Texts::default(), |mut turned, index| {
                    turned.push(texts.at(index));
                    turned
                });
            }
        }
        Value::Object(ObjectRef::Set(set)) => {
            let range = only(set.len());
            set.iter().skip(range.start).take(range.len()).for_each(|member| texts.push(member.bytes(&mut digits)));
        }
        Value::Object(ObjectRef::Zset(set)) => {
            let Range { start, end } = only(set.len());
            let mut push = |(member, _): (Item<'_>, f64)| texts.push(member.bytes(&mut digits));
            match from_end {
                true => set.iter(set.len() - end..set.len() - start).rev().for_each(&mut push),
                false => set.iter(start..end).for_each(&mut push),
            }
        }
        _ => return None,
    }
    Some(texts)
}

/// Calls `f` with what a pattern stands for where the element is put in: the element itself, the string of a key, the
/// value of a hash's field; None if there is no such thing.
fn look_up<R>(db: &mut View<'_, '_>, pattern: &[u8], element: &[u8], f: impl FnOnce(Option<&[u8]>) -> R) -> R {
    if pattern == b"#" {
        return f(Some(element));
    }
    let Some(star) = pattern.iter().position(|byte| *byte == b'*') else { return f(None) };
    let behind = &pattern[star + 1..];
    let arrow = behind.windows(2).position(|two| two == b"->").filter(|at| at + 2 < behind.len());
    let (suffix, field) = match arrow {
        Some(at) => (&behind[..at], Some(&behind[at + 2..])),
        None => (behind, None),
    };
    let key = [&pattern[..star], element, suffix].concat();
    let now = db.now();
    let value = db.read_other(&key).map(|entry| entry.value());
    match (value, field) {
        (Some(Value::Text(text)), None) => text.with(|bytes| f(Some(bytes))),
        (Some(Value::Object(ObjectRef::Hash(hash))), Some(field)) => {
            let mut digits = itoa::Buffer::new();
            f(hash.get(field, now).map(|item| item.bytes(&mut digits)))
        }
        _ => f(None),
    }
}

/// The order of the elements that are wanted, by their indexes; or the error.
fn order(db: &mut View<'_, '_>, texts: &Texts, query: &Query<'_>) -> Result<Vec<usize>, &'static str> {
    let mut indexes: Vec<usize> = (0..texts.len()).collect();
    let directed = |ordering: Ordering| if query.descending { ordering.reverse() } else { ordering };
    let by = query.by;
    if query.alpha {
        let Some(by) = by else {
            // What is stored is in the order of the bytes; what is answered in that of C's texts, which end at a NUL.
            let text = |index| if query.store.is_some() { texts.at(index) } else { c_text(texts.at(index)) };
            indexes.sort_by(|a, b| directed(text(*a).cmp(text(*b))));
            return Ok(indexes);
        };
        let weight = |index| look_up(db, by, texts.at(index), |text| text.map(<[u8]>::to_vec));
        let weights: Vec<_> = (0..texts.len()).map(weight).collect();
        // What weighs nothing comes first.
        indexes.sort_by(|a, b| directed(weights[*a].cmp(&weights[*b])));
        return Ok(indexes);
    }
    let weight = |index| match by {
        Some(by) => look_up(db, by, texts.at(index), |text| text.map_or(Some(0.0), parse_double)),
        None => parse_double(texts.at(index)),
    };
    let weights: Option<Vec<f64>> = (0..texts.len()).map(weight).collect();
    let weights = weights.ok_or(NO_NUMBER)?;
    let by_weight = |a: usize, b: usize| weights[a].partial_cmp(&weights[b]).unwrap_or(Ordering::Equal);
    indexes.sort_by(|a, b| directed(by_weight(*a, *b).then_with(|| texts.at(*a).cmp(texts.at(*b)))));
    Ok(indexes)
}

fn sort(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, may_store: bool) -> Outcome {
    let mut query = match Query::parse(args, may_store, db.may_reach()) {
        Ok(query) => query,
        Err(error) => return fail(reply, error),
    };
    let mut keeps_order = query.keeps_order();
    if keeps_order && query.store.is_some() && db.collection::<crate::types::Set>(0).is_ok_and(|set| set.is_some()) {
        // As in Redis: a set has no order that could be kept in a list.
        (keeps_order, query.by, query.alpha) = (false, None, true);
    }
    let only = |len: usize| if keeps_order { query.window(len) } else { 0..len };
    let Some(texts) = elements(db, only, keeps_order && query.descending) else { return wrong_type(reply) };
    let wanted = if keeps_order {
        (0..texts.len()).collect()
    } else {
        match order(db, &texts, &query) {
            Ok(mut order) => {
                order.truncate(query.window(texts.len()).end);
                order.split_off(query.window(texts.len()).start)
            }
            Err(error) => return fail(reply, error),
        }
    };
    match query.store {
        Some(_) => store(db, reply, &texts, &wanted, &query),
        None => answer(db, reply, &texts, &wanted, &query),
    }
}

fn answer(db: &mut View<'_, '_>, reply: &mut Reply<'_>, texts: &Texts, wanted: &[usize], query: &Query<'_>) -> Outcome {
    let (mark, most) = (reply.output().mark(), reply.output().len().saturating_add(RESULT_MAX));
    reply.array(wanted.len() * query.gets.len().max(1));
    for &index in wanted {
        if query.gets.is_empty() {
            reply.bulk(texts.at(index));
        }
        for pattern in &query.gets {
            look_up(db, pattern, texts.at(index), |text| match text {
                Some(text) => reply.bulk(text),
                None => reply.null(),
            });
            if reply.output().len() > most {
                reply.output().truncate(mark);
                return fail(reply, OUT_OF_RANGE);
            }
        }
    }
    Outcome::Done
}

fn store(db: &mut View<'_, '_>, reply: &mut Reply<'_>, texts: &Texts, wanted: &[usize], query: &Query<'_>) -> Outcome {
    const DESTINATION: usize = 1;
    let limit = db.limits().list_max_listpack_size;
    let (mut list, mut size) = (List::default(), 0);
    let mut push = |text: &[u8]| {
        size += text.len();
        list.push(End::Back, std::iter::once(text), limit);
        size <= RESULT_MAX
    };
    for &index in wanted {
        let fits = match query.gets.is_empty() {
            true => push(texts.at(index)),
            false => query
                .gets
                .iter()
                .all(|pattern| look_up(db, pattern, texts.at(index), |text| push(text.unwrap_or_default()))),
        };
        if !fits {
            return fail(reply, OUT_OF_RANGE);
        }
    }
    reply.integer(list.len() as i64);
    if list.is_empty() {
        db.remove(DESTINATION);
    } else {
        db.set(DESTINATION, NewValue::Object(list.into_object()), Ttl::None, Event::new(class::LIST, "sortstore"));
    }
    Outcome::Done
}
