//! Distinct members with scores, in the order of the scores, and of the members where scores are equal: packed as member,
//! score, member, score … while there are few. Knows bytes only.
//!
//! Every range of members is a range of ranks: [`Zset::by_score`] and [`Zset::by_text`] find it, [`Zset::iter`] walks
//! over it from either end.

use super::packed::{Item, Items, Packed};
use super::thin::{Form, Thin};
use super::zset_full::{Full, Members};
use crate::config::Limits;
use arrayvec::ArrayVec;
use std::ops::Range;

/// Distinct members with scores. No score is NaN.
#[derive(Clone, Debug, Default)]
pub struct Zset(Thin<Full>);

/// An end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    /// The score.
    pub score: f64,
    /// Without the members that have it.
    pub exclusive: bool,
}

/// An end of a range of members that all have one score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextBound<'a> {
    /// In front of all members.
    First,
    /// Behind all members.
    Last,
    /// At this member, which is in the range.
    Including(&'a [u8]),
    /// At this member, which is not.
    Excluding(&'a [u8]),
}

impl TextBound<'_> {
    /// True if a member lies in a range that starts here.
    fn admits_above(self, text: &[u8]) -> bool {
        match self {
            Self::First => true,
            Self::Last => false,
            Self::Including(bound) => text >= bound,
            Self::Excluding(bound) => text > bound,
        }
    }

    /// True if a member lies in a range that ends here.
    fn admits_below(self, text: &[u8]) -> bool {
        match self {
            Self::First => false,
            Self::Last => true,
            Self::Including(bound) => text <= bound,
            Self::Excluding(bound) => text < bound,
        }
    }
}

/// Room for a score as text.
type ScoreBytes = [u8; 8];

/// How a score is packed: an integer as such (so -0 becomes 0, as in Redis's listpacks), else its bits in 4 or 8 bytes.
fn score_item(score: f64, bytes: &mut ScoreBytes) -> Item<'_> {
    let whole = score as i64;
    if whole as f64 == score && whole.unsigned_abs() < 1 << 53 {
        return Item::Int(whole);
    }
    let single = score as f32;
    if f64::from(single) == score {
        bytes[..4].copy_from_slice(&single.to_le_bytes());
        return Item::Text(&bytes[..4]);
    }
    *bytes = score.to_le_bytes();
    Item::Text(bytes)
}

/// The score that [`score_item`] packed.
#[inline]
fn item_score(item: Item<'_>) -> f64 {
    match item {
        Item::Int(whole) => whole as f64,
        Item::Text(bytes) => match (bytes.try_into(), bytes.try_into()) {
            (Ok(bytes), _) => f64::from_le_bytes(bytes),
            (_, Ok(bytes)) => f64::from(f32::from_le_bytes(bytes)),
            _ => 0.0,
        },
    }
}

/// The members of a packed set with their offsets and scores.
fn pairs(mut items: Items<'_>) -> impl Iterator<Item = (usize, Item<'_>, f64)> {
    std::iter::from_fn(move || {
        let (offset, member) = items.next()?;
        let (_, score) = items.next()?;
        Some((offset, member, item_score(score)))
    })
}

fn packed_find(packed: &Packed, member: &[u8]) -> Option<(usize, f64)> {
    let offset = packed.find(member, 2)?;
    Some((offset, item_score(packed.at(packed.next(offset)))))
}

/// Adds a member that is not in a packed set.
fn packed_insert(packed: &mut Packed, member: &[u8], score: f64) {
    let mut digits = itoa::Buffer::new();
    let behind =
        pairs(packed.iter()).find(|(_, other, at)| *at > score || *at == score && other.bytes(&mut digits) > member);
    let offset = behind.map_or(packed.size(), |(offset, ..)| offset);
    let mut bytes = ScoreBytes::default();
    packed.insert(offset, score_item(score, &mut bytes));
    packed.insert(offset, Item::of(member));
}

impl Zset {
    /// Members.
    #[inline]
    pub fn len(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) => packed.len() / 2,
            Form::Full(full) => full.len(),
        }
    }

    /// How it is kept, in the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        if self.0.is_full() { "skiplist" } else { "listpack" }
    }

    /// True if it is packed.
    pub fn is_packed(&self) -> bool {
        !self.0.is_full()
    }

    /// Bytes that it takes from the allocator, the 8 of itself excepted.
    pub fn memory(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) => packed.memory(),
            Form::Full(full) => full.memory(),
        }
    }

    /// Tells an empty set what is to come: so many members, the longest of so many bytes.
    pub fn expect(&mut self, members: usize, longest: usize, limits: &Limits) {
        if members > limits.zset_max_listpack_entries || longest > limits.zset_max_listpack_value {
            self.unpack();
        }
    }

    /// Makes it a large one.
    fn unpack(&mut self) -> &mut Full {
        if let Form::Packed(packed) = self.0.form() {
            let (mut full, mut digits) = (Full::default(), itoa::Buffer::new());
            for (_, member, score) in pairs(packed.iter()) {
                full.set(member.bytes(&mut digits), score);
            }
            self.0 = Thin::full(full);
        }
        match self.0.form_mut() {
            Form::Full(full) => full,
            Form::Packed(_) => unreachable!("it was just made a large one"),
        }
    }

    /// Adds a member or changes its score; gives the score that it had. An equal one stays as it is.
    pub fn set(&mut self, member: &[u8], score: f64, limits: &Limits) -> Option<f64> {
        let packed = match self.0.form_mut() {
            Form::Full(full) => return full.set(member, score),
            Form::Packed(packed) => packed,
        };
        if let Some((offset, old)) = packed_find(packed, member) {
            if old != score {
                packed.remove(offset, 2);
                packed_insert(packed, member, score);
            }
            return Some(old);
        }
        if packed.len() / 2 >= limits.zset_max_listpack_entries
            || member.len() > limits.zset_max_listpack_value
            || !packed.has_room(2, member.len() + 8)
        {
            return self.unpack().set(member, score);
        }
        packed_insert(packed, member, score);
        None
    }

    /// A set of members that are in order and distinct: packed if the limits allow it, as every set that a command makes of
    /// others.
    pub fn from_sorted<'m>(members: impl ExactSizeIterator<Item = (&'m [u8], f64)> + Clone, limits: &Limits) -> Self {
        let longest = members.clone().map(|(member, _)| member.len()).max().unwrap_or(0);
        let mut set = Self::default();
        set.expect(members.len(), longest, limits);
        match set.0.form_mut() {
            Form::Full(full) => {
                for (member, score) in members {
                    full.set(member, score);
                }
            }
            Form::Packed(packed) => {
                for (member, score) in members {
                    packed.push(Item::of(member));
                    packed.push(score_item(score, &mut ScoreBytes::default()));
                }
            }
        }
        set
    }

    /// Removes a member; gives the score that it had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self.0.form_mut() {
            Form::Full(full) => full.remove(member),
            Form::Packed(packed) => {
                let (offset, score) = packed_find(packed, member)?;
                packed.remove(offset, 2);
                Some(score)
            }
        }
    }

    /// Removes the members of a range of ranks. If these are most of many, those that stay are put into a set of their own,
    /// and the old one is returned to be dropped: that costs as much as what stays.
    ///
    /// # Panics
    /// Past the end.
    pub fn cut(&mut self, range: Range<usize>) -> Self {
        let kept = self.len() - range.len();
        if !self.0.is_full() || kept >= range.len() {
            self.remove_range(range);
            return Self::default();
        }
        let mut full = Full::default();
        for (text, score) in self.iter(0..range.start).chain(self.iter(range.end..self.len())) {
            full.set(text.bytes(&mut itoa::Buffer::new()), score);
        }
        std::mem::replace(self, Self(Thin::full(full)))
    }

    /// Removes the members of a range of ranks.
    ///
    /// # Panics
    /// Past the end.
    pub fn remove_range(&mut self, range: Range<usize>) {
        match self.0.form_mut() {
            Form::Full(full) => full.remove_range(range),
            Form::Packed(packed) => {
                let offset = packed.offset(range.start * 2);
                packed.remove(offset, range.len() * 2);
            }
        }
    }

    /// The score of a member.
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.0.form() {
            Form::Full(full) => full.score(member),
            Form::Packed(packed) => Some(packed_find(packed, member)?.1),
        }
    }

    /// The rank of a member, from 0, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match self.0.form() {
            Form::Full(full) => full.rank(member),
            Form::Packed(packed) => {
                let (offset, score) = packed_find(packed, member)?;
                Some((pairs(packed.iter()).take_while(|(at, ..)| *at < offset).count(), score))
            }
        }
    }

    /// Ranks of the members with a score between two bounds.
    pub fn by_score(&self, min: ScoreBound, max: ScoreBound) -> Range<usize> {
        let start = self.below(min.score, min.exclusive);
        let end = self.below(max.score, !max.exclusive);
        start..end.max(start)
    }

    /// Members with a score below `score`, or at most `score`.
    fn below(&self, score: f64, or_equal: bool) -> usize {
        let before = |other: f64| other < score || or_equal && other == score;
        match self.0.form() {
            Form::Full(full) => full.partition_by_score(before),
            Form::Packed(packed) => pairs(packed.iter()).take_while(|(.., other)| before(*other)).count(),
        }
    }

    /// Ranks of the members between two bounds but for the first `skip`, or, `reverse`, the last. They mean something where
    /// all scores are equal. If they are not, a packed set is searched from its start, or from its end, and what is
    /// skipped need not lie between the bounds, as Redis does it.
    pub fn by_text(&self, min: TextBound<'_>, max: TextBound<'_>, reverse: bool, skip: usize) -> Range<usize> {
        let packed = match self.0.form() {
            Form::Full(full) => {
                let start = full.partition_point(|_, text| !min.admits_above(text));
                let end = full.partition_point(|_, text| max.admits_below(text)).max(start);
                let skip = skip.min(end - start);
                return if reverse { start..end - skip } else { start + skip..end };
            }
            Form::Packed(packed) => packed,
        };
        let mut digits = itoa::Buffer::new();
        let above: Vec<(bool, bool)> = pairs(packed.iter())
            .map(|(_, member, _)| {
                let text = member.bytes(&mut digits);
                (min.admits_above(text), max.admits_below(text))
            })
            .collect();
        // Redis looks at both ends first: the range may lie beyond one of them.
        if !above.last().is_some_and(|(above, _)| *above) || !above.first().is_some_and(|(_, below)| *below) {
            return 0..0;
        }
        if reverse {
            let end = above.iter().rposition(|(_, below)| *below).map_or(0, |last| last + 1);
            if end == 0 || !above[end - 1].0 {
                return 0..0;
            }
            let end = end.saturating_sub(skip);
            let start = above[..end].iter().rposition(|(above, _)| !*above).map_or(0, |last| last + 1);
            return start..end;
        }
        let start = above.iter().position(|(above, _)| *above).unwrap_or(above.len());
        if !above.get(start).is_some_and(|(_, below)| *below) {
            return 0..0;
        }
        let start = start.saturating_add(skip).min(above.len());
        let len = above[start..].iter().position(|(_, below)| !*below).unwrap_or(above.len() - start);
        start..start + len
    }

    /// The members of a range of ranks with their scores.
    ///
    /// # Panics
    /// Past the end.
    #[inline]
    pub fn iter(&self, range: Range<usize>) -> ZsetIter<'_> {
        match self.0.form() {
            Form::Full(full) => ZsetIter(Walk::Full(full.iter(range))),
            Form::Packed(packed) => {
                let start = packed.offset(range.start * 2);
                let items = packed.iter_from(start);
                ZsetIter(Walk::Packed {
                    packed,
                    items,
                    start: range.start,
                    len: range.len(),
                    back: ArrayVec::new_const(),
                })
            }
        }
    }

    /// All members with their scores.
    pub fn iter_all(&self) -> ZsetIter<'_> {
        self.iter(0..self.len())
    }

    /// Calls `found` with some members and their scores from `cursor` (0 at the start) on, about `count` of them, or all of
    /// a packed set; gives the next cursor, 0 at the end. A member that is there from the first call to the last is
    /// found.
    pub fn scan(&self, cursor: u64, count: u64, mut found: impl FnMut(Item<'_>, f64)) -> u64 {
        match self.0.form() {
            Form::Full(full) => full.scan(cursor, count as usize, |text, score| found(Item::Text(text), score)),
            Form::Packed(packed) => {
                pairs(packed.iter()).for_each(|(_, member, score)| found(member, score));
                0
            }
        }
    }
}

/// Members of a range with their scores, from either end.
#[derive(Debug)]
pub struct ZsetIter<'a>(Walk<'a>);

#[derive(Debug)]
enum Walk<'a> {
    Packed {
        packed: &'a Packed,
        items: Items<'a>,
        start: usize,
        len: usize,
        /// Offsets of the last members: elements have no way back.
        back: ArrayVec<u32, 24>,
    },
    Full(Members<'a>),
}

impl<'a> Iterator for ZsetIter<'a> {
    type Item = (Item<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walk::Full(members) => members.next().map(|(text, score)| (Item::Text(text), score)),
            Walk::Packed { items, len, start, .. } => {
                *len = len.checked_sub(1)?;
                *start += 1;
                let (_, member) = items.next()?;
                let (_, score) = items.next()?;
                Some((member, item_score(score)))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Walk::Full(members) => members.size_hint(),
            Walk::Packed { len, .. } => (*len, Some(*len)),
        }
    }
}

impl DoubleEndedIterator for ZsetIter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walk::Full(members) => members.next_back().map(|(text, score)| (Item::Text(text), score)),
            Walk::Packed { packed, len, start, back, .. } => {
                let last = len.checked_sub(1)?;
                if back.is_empty() {
                    let first = (*start + *len).saturating_sub(back.capacity()).max(*start);
                    let members = pairs(packed.iter_from(packed.offset(first * 2)));
                    back.extend(members.map(|(offset, ..)| offset as u32).take(*start + *len - first));
                }
                *len = last;
                let offset = back.pop()? as usize;
                Some((packed.at(offset), item_score(packed.at(packed.next(offset)))))
            }
        }
    }
}

impl ExactSizeIterator for ZsetIter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SCORES: [f64; 14] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        0.1,
        -2.75,
        1e300,
        f64::INFINITY,
        f64::NEG_INFINITY,
        9_007_199_254_740_993.0,
        5e-324,
        16_777_217.0,
        4096.0,
    ];

    #[test]
    fn every_score_comes_back_from_a_packed_set() {
        for score in SCORES.into_iter().chain([f64::MAX, f64::MIN_POSITIVE, 123_456.789, -9e18, 1e15]) {
            let mut bytes = ScoreBytes::default();
            let back = item_score(score_item(score, &mut bytes));
            assert_eq!(back.to_bits(), (score + 0.0).to_bits(), "{score}");
        }
    }

    type Model = BTreeMap<Vec<u8>, f64>;

    fn ordered(model: &Model) -> Vec<(Vec<u8>, f64)> {
        let mut all: Vec<_> = model.iter().map(|(member, score)| (member.clone(), *score)).collect();
        all.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap().then_with(|| a.0.cmp(&b.0)));
        all
    }

    fn check(set: &Zset, model: &Model) {
        let all = ordered(model);
        let given: Vec<_> = set.iter_all().map(|(member, score)| (member.to_vec(), score)).collect();
        assert_eq!(given, all);
        let (start, end) = (all.len() / 3, all.len() - all.len() / 4);
        let part: Vec<_> = set.iter(start..end).rev().map(|(member, _)| member.to_vec()).collect();
        assert_eq!(part, all[start..end].iter().rev().map(|(member, _)| member.clone()).collect::<Vec<_>>());
        let mut both = set.iter_all();
        let ends = (both.next().map(|pair| pair.0.to_vec()), both.next_back().map(|pair| pair.0.to_vec()));
        let last = if all.len() > 1 { all.last() } else { None };
        assert_eq!(ends, (all.first().map(|pair| pair.0.clone()), last.map(|pair| pair.0.clone())));
        for (rank, (member, score)) in all.iter().enumerate().step_by(7) {
            assert_eq!(set.rank(member), Some((rank, *score)));
        }
        let bound = |score, exclusive| ScoreBound { score, exclusive };
        for (min, max) in [(-1.0, 1.0), (0.1, f64::INFINITY), (1.0, -1.0), (0.0, 0.0)] {
            for exclusive in [false, true] {
                let range = set.by_score(bound(min, exclusive), bound(max, exclusive));
                let inside = |s: f64| if exclusive { s > min && s < max } else { s >= min && s <= max };
                assert_eq!(range.len(), all.iter().filter(|(_, score)| inside(*score)).count());
                assert!(all[range].iter().all(|(_, score)| inside(*score)));
            }
        }
        let mut found = Vec::new();
        let mut cursor = 0;
        loop {
            cursor = set.scan(cursor, 5, |member, score| found.push((member.to_vec(), score)));
            if cursor == 0 {
                break;
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, model.clone().into_iter().collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_set_is_a_map_in_order(
            entries in prop::sample::select(vec![0usize, 10, 100, 1_000]),
            steps in prop::collection::vec((0..12u8, "[0-9]{0,3}|[a-c]{1,4}|x{60,70}", 0..14usize, 0..200usize), 1..300),
        ) {
            let limits = Limits { zset_max_listpack_entries: entries, ..Limits::DEFAULT };
            let (mut set, mut model) = (Zset::default(), Model::new());
            for (step, text, score, place) in steps {
                let member = text.into_bytes();
                match step {
                    0..=8 => {
                        let before = set.set(&member, SCORES[score], &limits);
                        prop_assert_eq!(before, model.get(&member).copied());
                        // An equal score stays as it is: 0 is not made -0.
                        if before != Some(SCORES[score]) {
                            model.insert(member.clone(), SCORES[score]);
                        }
                    }
                    9 | 10 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                    _ => {
                        let start = place.min(model.len());
                        let range = start..(start + score * 3).min(model.len());
                        for (member, _) in &ordered(&model)[range.clone()] {
                            model.remove(member);
                        }
                        if range.len() % 2 == 0 { drop(set.cut(range)); } else { set.remove_range(range); }
                    }
                }
                prop_assert_eq!((set.len(), set.score(&member)), (model.len(), model.get(&member).copied()));
            }
            check(&set, &model);
            check(&set.clone(), &model);
            let all = ordered(&model);
            let copy = Zset::from_sorted(all.iter().map(|(member, score)| (member.as_slice(), *score)), &limits);
            check(&copy, &model);
        }

        #[test]
        fn ranges_of_members_are_found(packed in any::<bool>(), texts in prop::collection::btree_set("[a-d]{0,3}", 0..60),
                                       ends in ("[a-d]{0,2}", "[a-d]{0,2}", any::<[bool; 2]>())) {
            let limits = Limits { zset_max_listpack_entries: if packed { 100 } else { 0 }, ..Limits::DEFAULT };
            let set = Zset::from_sorted(texts.iter().map(|text| (text.as_bytes(), 1.0)).collect::<Vec<_>>().into_iter(), &limits);
            let (from, to, [from_in, to_in]) = ends;
            let bound = |text, is_in| if is_in { TextBound::Including(text) } else { TextBound::Excluding(text) };
            let (min, max) = (bound(from.as_bytes(), from_in), bound(to.as_bytes(), to_in));
            let inside: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec())
                .filter(|text| min.admits_above(text) && max.admits_below(text)).collect();
            for reverse in [false, true] {
                let range = set.by_text(min, max, reverse, 0);
                prop_assert_eq!(set.iter(range).map(|(member, _)| member.to_vec()).collect::<Vec<_>>(), inside.clone());
            }
            prop_assert_eq!(set.by_text(TextBound::First, TextBound::Last, false, 0), 0..texts.len());
            prop_assert!(set.by_text(TextBound::Last, TextBound::First, true, 0).is_empty());
        }
    }

    #[test]
    fn a_large_set_takes_little_more_than_its_members() {
        let mut set = Zset::default();
        for n in 0..1_000u32 {
            set.set(
                format!("member:{n:06}").as_bytes(),
                f64::from(n.wrapping_mul(2_654_435_761) >> 8),
                &Limits::DEFAULT,
            );
        }
        // 24 bytes are the member's own.
        assert!(set.memory() < 1_000 * 64, "{}", set.memory());
    }
}
