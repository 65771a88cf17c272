//! A sequence that knows where each element stands: the order of large sorted sets. A B+ tree that counts, with every
//! operation by index, so it needs no order of its own; where the elements are in an order, [`Counted::partition_point`]
//! finds places by it. Knows nothing of what it holds.
//!
//! A node takes 1 KiB: a leaf is up to [`LEAF`] elements, an inner node up to [`FAN`] children, each with the number
//! and a copy of the first of its elements, so that a search reads one node a level and no element elsewhere. A full
//! leaf first gives elements to a neighbour, which keeps leaves some 85 % full under random inserts; one that grows at its
//! end leaves full nodes behind.

use arrayvec::ArrayVec;
use std::ops::Range;

/// Elements of a leaf, at most; of 16 bytes, they fill 1 KiB with their count.
const LEAF: usize = 63;
/// Children of an inner node, at most.
const FAN: usize = 25;
/// Two neighbours of which one is smaller than a quarter become one, if that is at most three quarters full.
const SMALL: usize = 4;

type Leaf<T> = ArrayVec<T, LEAF>;
type Inner<T> = ArrayVec<Child<T>, FAN>;

/// A sequence of small values.
#[derive(Clone, Debug)]
pub(super) struct Counted<T> {
    root: Node<T>,
    len: usize,
    nodes: usize,
}

#[derive(Clone, Debug)]
enum Node<T> {
    Leaf(Box<Leaf<T>>),
    Inner(Box<Inner<T>>),
}

/// A part of an inner node: never empty, its first element at hand.
#[derive(Clone, Debug)]
struct Child<T> {
    first: T,
    count: usize,
    node: Node<T>,
}

impl<T: Copy> Default for Counted<T> {
    fn default() -> Self {
        Self { root: Node::Leaf(Box::default()), len: 0, nodes: 1 }
    }
}

impl<T: Copy> Counted<T> {
    /// Elements.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that it takes from the allocator.
    pub(super) fn memory(&self) -> usize {
        self.nodes * const { crate::alloc::class_size(size_of::<Leaf<T>>()) }
    }

    /// Elements in front of the first that does not satisfy `before`, which must hold for a run from the start.
    #[inline]
    pub(super) fn partition_point(&self, mut before: impl FnMut(&T) -> bool) -> usize {
        let (mut node, mut passed) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(leaf) => return passed + leaf.partition_point(before),
                Node::Inner(children) => {
                    let at = children.partition_point(|child| before(&child.first)).saturating_sub(1);
                    passed += children[..at].iter().map(|child| child.count).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// The leaf that holds element number `index`, and the element's place in it.
    #[inline]
    fn leaf_at(&self, mut index: usize) -> (&[T], usize) {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return (leaf, index),
                Node::Inner(children) => {
                    let at;
                    (at, index) = holder(children, index);
                    node = &children[at].node;
                }
            }
        }
    }

    /// The elements of a range.
    ///
    /// # Panics
    /// Past the end.
    #[inline]
    pub(super) fn iter(&self, range: Range<usize>) -> Iter<'_, T> {
        assert!(range.end <= self.len);
        Iter { tree: self, range, front: &[], back: &[] }
    }

    /// Adds an element before element number `index`.
    ///
    /// # Panics
    /// Past the end.
    pub(super) fn insert(&mut self, index: usize, value: T) {
        assert!(index <= self.len);
        let at_end = index == self.len;
        if let Some(right) = self.root.insert(index, value, at_end, &mut self.nodes) {
            let left = std::mem::replace(&mut self.root, Node::Inner(Box::default()));
            self.nodes += 1;
            if let Node::Inner(children) = &mut self.root {
                children.extend([Child::new(left), Child::new(right)]);
            }
        }
        self.len += 1;
    }

    /// Puts another element in the place of element number `index`.
    ///
    /// # Panics
    /// Past the end.
    pub(super) fn replace(&mut self, index: usize, value: T) {
        assert!(index < self.len);
        let (mut node, mut index) = (&mut self.root, index);
        loop {
            match node {
                Node::Leaf(leaf) => return leaf[index] = value,
                Node::Inner(children) => {
                    let at;
                    (at, index) = holder(children, index);
                    let child = &mut children[at];
                    if index == 0 {
                        child.first = value;
                    }
                    node = &mut child.node;
                }
            }
        }
    }

    /// Takes out the elements of a range, in order.
    ///
    /// # Panics
    /// Past the end.
    pub(super) fn remove(&mut self, range: Range<usize>, mut removed: impl FnMut(T)) {
        assert!(range.end <= self.len);
        self.len -= range.len();
        self.root.remove(range, &mut removed, &mut self.nodes);
        while let Node::Inner(children) = &mut self.root
            && children.len() < 2
        {
            self.nodes -= 1;
            let Some(only) = children.pop() else {
                *self = Self::default();
                return;
            };
            self.root = only.node;
        }
    }
}

impl<T: Copy> Child<T> {
    fn new(node: Node<T>) -> Self {
        Self { first: node.first(), count: node.count(), node }
    }
}

/// The child that holds element number `index`, and the element's number there.
#[inline]
fn holder<T>(children: &[Child<T>], mut index: usize) -> (usize, usize) {
    let mut at = 0;
    while index >= children[at].count {
        index -= children[at].count;
        at += 1;
    }
    (at, index)
}

impl<T: Copy> Node<T> {
    /// The first element; the node is not empty.
    fn first(&self) -> T {
        match self {
            Self::Leaf(leaf) => leaf[0],
            Self::Inner(children) => children[0].first,
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len(),
            Self::Inner(children) => children.iter().map(|child| child.count).sum(),
        }
    }

    /// How full it is: what it holds itself, and what it could.
    fn fill(&self) -> (usize, usize) {
        match self {
            Self::Leaf(leaf) => (leaf.len(), LEAF),
            Self::Inner(children) => (children.len(), FAN),
        }
    }

    /// Adds an element; gives the upper part of the node if it had to be split. `at_end`: the sequence grows at its end.
    fn insert(&mut self, index: usize, value: T, at_end: bool, nodes: &mut usize) -> Option<Self> {
        let children = match self {
            Self::Leaf(leaf) => {
                let right = insert_split(leaf, index, value, at_end)?;
                *nodes += 1;
                return Some(Self::Leaf(right));
            }
            Self::Inner(children) => children,
        };
        let (mut at, mut index) = (0, index);
        while at + 1 < children.len() && index > children[at].count {
            index -= children[at].count;
            at += 1;
        }
        if !at_end {
            make_room(children, &mut at, &mut index);
        }
        let child = &mut children[at];
        let split = child.node.insert(index, value, at_end, nodes);
        if index == 0 {
            child.first = value;
        }
        let Some(right) = split else {
            child.count += 1;
            return None;
        };
        let right = Child::new(right);
        child.count = child.count + 1 - right.count;
        let right = insert_split(children, at + 1, right, at_end)?;
        *nodes += 1;
        Some(Self::Inner(right))
    }

    /// Takes out the elements of a range. May leave the node empty.
    fn remove(&mut self, range: Range<usize>, removed: &mut impl FnMut(T), nodes: &mut usize) {
        let children = match self {
            Self::Leaf(leaf) => return leaf.drain(range).for_each(removed),
            Self::Inner(children) => children,
        };
        let mut start = 0;
        children.retain(|child| {
            let part = range.start.max(start) - start..range.end.min(start + child.count).max(start) - start;
            start += child.count;
            if part.is_empty() {
                return true;
            }
            if part.len() == child.count {
                child.node.take_all(removed, nodes);
                return false;
            }
            child.count -= part.len();
            child.node.remove(part, removed, nodes);
            child.first = child.node.first();
            true
        });
        let mut at = 0;
        while at + 1 < children.len() {
            if children[at].node.should_join(&children[at + 1].node) {
                let right = children.remove(at + 1);
                children[at].count += right.count;
                children[at].node.join(right.node);
                *nodes -= 1;
            } else {
                at += 1;
            }
        }
    }

    /// Hands out all elements of a node that goes, and discounts the nodes.
    fn take_all(&self, removed: &mut impl FnMut(T), nodes: &mut usize) {
        *nodes -= 1;
        match self {
            Self::Leaf(leaf) => leaf.iter().copied().for_each(removed),
            Self::Inner(children) => children.iter().for_each(|child| child.node.take_all(removed, nodes)),
        }
    }

    fn should_join(&self, right: &Self) -> bool {
        let ((left, most), (right, _)) = (self.fill(), right.fill());
        left.min(right) < most / SMALL && left + right <= most - most / SMALL
    }

    fn join(&mut self, right: Self) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => left.extend(*right),
            (Self::Inner(left), Self::Inner(right)) => left.extend(*right),
            _ => unreachable!("neighbours are on one level"),
        }
    }
}

/// Inserts into an array; gives its upper part if it was full.
fn insert_split<V, const N: usize>(
    array: &mut ArrayVec<V, N>,
    index: usize,
    value: V,
    at_end: bool,
) -> Option<Box<ArrayVec<V, N>>> {
    if !array.is_full() {
        array.insert(index, value);
        return None;
    }
    let mut right: Box<ArrayVec<V, N>> = Box::default();
    if at_end && index == N {
        right.push(value);
        return Some(right);
    }
    right.extend(array.drain(N / 2..));
    if index <= N / 2 {
        array.insert(index, value);
    } else {
        right.insert(index - N / 2, value);
    }
    Some(right)
}

/// Where a full leaf is to take an element, moves some of it to a neighbour with room. The place may change with it.
fn make_room<T: Copy>(children: &mut Inner<T>, at: &mut usize, index: &mut usize) {
    let room = |child: &Child<T>| match &child.node {
        Node::Leaf(leaf) => leaf.remaining_capacity(),
        Node::Inner(_) => 0,
    };
    if !matches!(&children[*at].node, Node::Leaf(leaf) if leaf.is_full()) {
        return;
    }
    const WORTHWHILE: usize = LEAF / 8;
    let here = *at;
    if here > 0 && room(&children[here - 1]) > WORTHWHILE {
        let moved = room(&children[here - 1]) / 2;
        let [left, right] = &mut children[here - 1..=here] else { return };
        let (Node::Leaf(to), Node::Leaf(from)) = (&mut left.node, &mut right.node) else { return };
        to.extend(from.drain(..moved));
        (left.count, right.count, right.first) = (to.len(), from.len(), from[0]);
        if *index < moved {
            // Not at the end of what was moved: there both places are the same, and this one has more room.
            (*at, *index) = (here - 1, to.len() - moved + *index);
        } else {
            *index -= moved;
        }
    } else if here + 1 < children.len() && room(&children[here + 1]) > WORTHWHILE {
        let moved = room(&children[here + 1]) / 2;
        let [left, right] = &mut children[here..=here + 1] else { return };
        let (Node::Leaf(from), Node::Leaf(to)) = (&mut left.node, &mut right.node) else { return };
        let kept = from.len() - moved;
        let tail: Leaf<T> = from.drain(kept..).collect();
        let all: Leaf<T> = tail.into_iter().chain(to.drain(..)).collect();
        **to = all;
        (left.count, right.count, right.first) = (from.len(), to.len(), to[0]);
        if *index > kept {
            (*at, *index) = (here + 1, *index - kept);
        }
    }
}

/// The elements of a range, from either end. A new leaf is found from the root.
#[derive(Debug)]
pub(super) struct Iter<'a, T> {
    tree: &'a Counted<T>,
    range: Range<usize>,
    front: &'a [T],
    back: &'a [T],
}

impl<T: Copy> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.range.is_empty() {
            return None;
        }
        if self.front.is_empty() {
            let (leaf, at) = self.tree.leaf_at(self.range.start);
            self.front = &leaf[at..];
        }
        self.range.start += 1;
        let (first, rest) = self.front.split_first()?;
        self.front = rest;
        Some(*first)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.range.len(), Some(self.range.len()))
    }
}

impl<T: Copy> DoubleEndedIterator for Iter<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        if self.range.is_empty() {
            return None;
        }
        self.range.end -= 1;
        if self.back.is_empty() {
            let (leaf, at) = self.tree.leaf_at(self.range.end);
            self.back = &leaf[..=at];
        }
        let (last, rest) = self.back.split_last()?;
        self.back = rest;
        Some(*last)
    }
}

impl<T: Copy> ExactSizeIterator for Iter<'_, T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl<T: Copy + PartialEq + std::fmt::Debug> Counted<T> {
        /// Counts, firsts and the number of nodes are true, all leaves are on one level, and no node is empty.
        fn check(&self) {
            fn walk<T: Copy + PartialEq + std::fmt::Debug>(node: &Node<T>, is_root: bool) -> (usize, usize, usize) {
                let Node::Inner(children) = node else {
                    assert!(is_root || node.count() > 0);
                    return (node.count(), 1, 1);
                };
                assert!(children.len() > usize::from(is_root));
                let (mut count, mut nodes, mut depths) = (0, 1, Vec::new());
                for child in children.iter() {
                    let below = walk(&child.node, false);
                    assert_eq!((below.0, child.node.first()), (child.count, child.first));
                    count += below.0;
                    nodes += below.1;
                    depths.push(below.2);
                }
                depths.dedup();
                assert_eq!(depths.len(), 1);
                (count, nodes, depths[0] + 1)
            }
            let (count, nodes, _) = walk(&self.root, true);
            assert_eq!((count, nodes), (self.len, self.nodes));
        }
    }

    #[test]
    fn a_node_takes_one_kib() {
        assert_eq!(crate::alloc::class_size(size_of::<Leaf<[u64; 2]>>()), 1024);
        assert_eq!(crate::alloc::class_size(size_of::<Inner<[u64; 2]>>()), 1024);
    }

    #[test]
    fn nodes_stay_full_where_elements_come_at_the_end_or_anywhere() {
        let mut tree = Counted::default();
        (0..10_000u64).for_each(|n| tree.insert(n as usize, [n, n]));
        tree.check();
        assert!(tree.memory() < 10_000 * 18, "{}", tree.memory());
        let mut tree = Counted::default();
        let mut seed = 1u64;
        for n in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tree.insert((seed >> 33) as usize % (n + 1), [seed, 0]);
        }
        tree.check();
        assert!(tree.memory() < 10_000 * 21, "{}", tree.memory());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_a_vector(steps in prop::collection::vec((0..10u8, any::<u32>(), 0..400usize), 0..120)) {
            let (mut tree, mut model) = (Counted::default(), Vec::new());
            let mut next = 0u32;
            for (step, place, count) in steps {
                let mut place = place as usize % (model.len() + 1);
                match step {
                    // Runs of inserts at one place, each behind or before the last; one in front of all now and then.
                    0..=5 => {
                        if step == 5 {
                            place = model.len();
                        }
                        for n in 0..count {
                            let at = if step < 3 || step == 5 { place + n } else { place };
                            tree.insert(at, next);
                            model.insert(at, next);
                            next += 1;
                        }
                    }
                    6 if place < model.len() => {
                        tree.replace(place, next);
                        model[place] = next;
                        next += 1;
                    }
                    _ => {
                        let count = if step < 9 { count % 3 } else { count };
                        let range = place..(place + count).min(model.len());
                        let mut gone = Vec::new();
                        tree.remove(range.clone(), |value| gone.push(value));
                        prop_assert_eq!(gone, model.drain(range).collect::<Vec<_>>());
                    }
                }
                tree.check();
                prop_assert_eq!(tree.len(), model.len());
                let range = place.min(model.len())..(place + count).min(model.len());
                prop_assert!(tree.iter(range.clone()).eq(model[range.clone()].iter().copied()));
                prop_assert!(tree.iter(range.clone()).rev().eq(model[range].iter().rev().copied()));
            }
            let mut sorted = Counted::default();
            for value in &model {
                let at = sorted.partition_point(|other| other < value);
                sorted.insert(at, *value);
            }
            sorted.check();
            model.sort_unstable();
            prop_assert!(sorted.iter(0..model.len()).eq(model.iter().copied()));
        }
    }
}
