//! Values in order: packed while they are few and small, else a deque of chunks. Knows bytes only.
//!
//! `list-max-listpack-size`, which the methods that add values take as `directive`, bounds a chunk. It also says when
//! Redis keeps a list as a `listpack` and when as a `quicklist`; that is told as Redis would, whatever the form here.

use super::list_chunk::{Element, LISTPACK_OVERHEAD, Run, Wanted, full_size};
use super::list_chunks::{Chunks, End, Room};
use super::packed::{Item, Packed};
use super::thin::{Form, Thin};
use std::ops::Range;

/// Bytes up to which a list is packed: pushing to the front or popping from the back costs a look at all of them.
const PACKED_SIZE: usize = 512;

/// Values in order.
#[derive(Clone, Debug, Default)]
pub struct List(Thin<Chunks>);

impl List {
    /// A list of `values`.
    pub fn of<'v>(values: impl Iterator<Item = &'v [u8]> + Clone, directive: i32) -> Self {
        let mut list = Self::default();
        list.push(End::Back, values, directive);
        list
    }

    /// Elements.
    #[inline]
    pub fn len(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) => packed.len(),
            Form::Full(chunks) => chunks.len(),
        }
    }

    /// How it is kept, in the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        match self.0.form() {
            Form::Full(chunks) if chunks.is_quicklist => "quicklist",
            _ => "listpack",
        }
    }

    /// Bytes that it takes from the allocator, the 8 of itself excepted.
    pub fn memory(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) => packed.memory(),
            Form::Full(chunks) => crate::alloc::class_size(size_of::<Chunks>()) + chunks.memory(),
        }
    }

    /// Adds values at an end, one after the other.
    #[inline]
    pub fn push<'v>(&mut self, end: End, values: impl Iterator<Item = &'v [u8]> + Clone, directive: i32) {
        let room = Room::of(directive);
        let (count, bytes) = values.clone().fold((0, 0), |(count, bytes), value| (count + 1, bytes + value.len()));
        match self.grow(count, bytes, room) {
            Form::Packed(packed) => values.for_each(|value| {
                let offset = if end == End::Front { 0 } else { packed.size() };
                packed.insert(offset, Item::of(value));
            }),
            Form::Full(chunks) => values.for_each(|value| chunks.push(end, value, room)),
        }
    }

    /// Calls `f` with the element at an end, and removes it.
    #[inline]
    pub fn pop<R>(&mut self, end: End, directive: i32, f: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        match self.0.form_mut() {
            Form::Packed(packed) => {
                let last = packed.len().checked_sub(1)?;
                let offset = if end == End::Front { 0 } else { packed.offset(last) };
                let result = f(Element::Item(packed.at(offset)));
                packed.remove(offset, 1);
                Some(result)
            }
            Form::Full(chunks) => {
                let result = chunks.pop(end, f);
                self.shrink(directive);
                result
            }
        }
    }

    /// Takes up to so many elements off an end, as far as they come in large pieces: [`List::drop`] removes the rest.
    pub fn cut(&mut self, end: End, count: usize) -> Self {
        match self.0.form_mut() {
            Form::Full(chunks) => chunks.cut(end, count).map_or_else(Self::default, |cut| Self(Thin::full(cut))),
            Form::Packed(_) => Self::default(),
        }
    }

    /// Removes so many elements at an end, as many as there are.
    pub fn drop(&mut self, end: End, count: usize, directive: i32) {
        match self.0.form_mut() {
            Form::Packed(packed) if end == End::Front => {
                packed.remove(0, count);
            }
            Form::Packed(packed) => {
                packed.remove(packed.offset(packed.len().saturating_sub(count)), count);
            }
            Form::Full(chunks) => {
                chunks.drop(end, count);
                self.shrink(directive);
            }
        }
    }

    /// Element number `index`.
    pub fn get(&self, index: usize) -> Option<Element<'_>> {
        match self.0.form() {
            Form::Packed(packed) => packed.get(index).map(Element::Item),
            Form::Full(chunks) => (index < chunks.len()).then(|| chunks.get(index)),
        }
    }

    /// Calls `f` with the elements of a range, which must be there.
    #[inline]
    pub fn each(&self, range: Range<usize>, mut f: impl FnMut(Element<'_>)) {
        match self.0.form() {
            Form::Packed(packed) => {
                let items = packed.iter_from(packed.offset(range.start)).take(range.len());
                items.for_each(|(_, item)| f(Element::Item(item)));
            }
            Form::Full(chunks) => chunks.each(range, f),
        }
    }

    /// The element at an end.
    pub fn end(&self, end: End) -> Option<Element<'_>> {
        self.get(if end == End::Front { 0 } else { self.len().checked_sub(1)? })
    }

    /// Calls `f` with the last `count` elements, the last first.
    pub fn each_back(&self, count: usize, f: impl FnMut(Element<'_>)) {
        match self.0.form() {
            Form::Packed(packed) => {
                let start = packed.offset(packed.len().saturating_sub(count));
                let items: Vec<_> = packed.iter_from(start).map(|(_, item)| Element::Item(item)).collect();
                items.into_iter().rev().for_each(f);
            }
            Form::Full(chunks) => chunks.iter_back().take(count).for_each(f),
        }
    }

    /// Replaces element number `index`; false if it is not there.
    pub fn set(&mut self, index: usize, value: &[u8], directive: i32) -> bool {
        if index >= self.len() {
            return false;
        }
        let room = Room::of(directive);
        match self.grow(1, value.len(), room) {
            Form::Packed(packed) => packed.replace(packed.offset(index), Item::of(value)),
            Form::Full(chunks) => chunks.set(index, value, room),
        }
        self.shrink(directive);
        true
    }

    /// Adds a value before or behind the first element that is `pivot`; false if there is none.
    pub fn insert(&mut self, is_before: bool, pivot: &[u8], value: &[u8], directive: i32) -> bool {
        let Some(&found) = self.find(Wanted::new(pivot), End::Front, 0, 1, usize::MAX).first() else { return false };
        let (room, index) = (Room::of(directive), found + usize::from(!is_before));
        match self.grow(1, value.len(), room) {
            Form::Packed(packed) => packed.insert(packed.offset(index), Item::of(value)),
            Form::Full(chunks) if index == chunks.len() => chunks.push(End::Back, value, room),
            Form::Full(chunks) => chunks.insert(index, value, room),
        }
        true
    }

    /// Removes elements that are `value`, from `end` on, `most` of them at most; returns how many were removed.
    pub fn remove(&mut self, value: &[u8], end: End, most: usize, directive: i32) -> usize {
        let wanted = Wanted::new(value);
        match self.0.form_mut() {
            Form::Packed(_) => {
                let mut found = self.find(wanted, end, 0, most, usize::MAX);
                found.sort_unstable_by(|a, b| b.cmp(a));
                let Form::Packed(packed) = self.0.form_mut() else { return 0 };
                found.iter().for_each(|&index| {
                    packed.remove(packed.offset(index), 1);
                });
                found.len()
            }
            Form::Full(chunks) => {
                let removed = chunks.remove(wanted, end, most, Room::of(directive));
                self.shrink(directive);
                removed
            }
        }
    }

    /// Numbers of the elements that are `wanted`, in the order in which they are found from `end` on: the first `skip`
    /// left out, `most` at most, among the first `look_at` elements.
    pub fn find(&self, wanted: Wanted<'_>, end: End, skip: usize, most: usize, look_at: usize) -> Vec<usize> {
        let len = self.len();
        let found = |elements: &mut dyn Iterator<Item = Element<'_>>| -> Vec<usize> {
            let numbered = elements.take(look_at).enumerate().filter(|(_, element)| wanted.is(*element));
            let number = |(at, _)| if end == End::Front { at } else { len - 1 - at };
            numbered.map(number).skip(skip).take(most).collect()
        };
        match (self.0.form(), end) {
            (Form::Packed(packed), End::Front) => found(&mut packed.iter().map(|(_, item)| Element::Item(item))),
            (Form::Packed(packed), End::Back) => {
                let items: Vec<_> = packed.iter().map(|(_, item)| Element::Item(item)).collect();
                found(&mut items.into_iter().rev())
            }
            (Form::Full(chunks), End::Front) => found(&mut chunks.iter()),
            (Form::Full(chunks), End::Back) => found(&mut chunks.iter_back()),
        }
    }

    /// Takes the form for `count` more elements of `bytes` bytes together.
    #[inline]
    fn grow(&mut self, count: usize, bytes: usize, room: Room) -> Form<&mut Packed, &mut Chunks> {
        match self.0.form_mut() {
            Form::Packed(packed) => {
                let is_quicklist = !room.fits(packed.len() + count, listpack_size(packed) + bytes);
                if is_quicklist || packed.size() + bytes + 5 * count > PACKED_SIZE {
                    self.unpack(is_quicklist);
                }
            }
            Form::Full(chunks) if !chunks.is_quicklist => {
                let size = chunks.only_run().map_or(0, Run::size);
                chunks.is_quicklist = !room.fits(chunks.len() + count, LISTPACK_OVERHEAD + size + bytes);
            }
            Form::Full(_) => {}
        }
        self.0.form_mut()
    }

    #[cold]
    fn unpack(&mut self, is_quicklist: bool) {
        let Form::Packed(packed) = self.0.form() else { return };
        let mut run = Run::default();
        packed.iter().for_each(|(_, item)| run.push_back(item));
        let mut chunks = if run.len() == 0 { Chunks::default() } else { Chunks::of(run) };
        chunks.is_quicklist = is_quicklist;
        self.0 = Thin::full(chunks);
    }

    /// Takes the form that fits after elements were removed: not at once the one it came from, or a list whose length
    /// moves up and down would change its form each time.
    #[inline]
    fn shrink(&mut self, directive: i32) {
        let Form::Full(chunks) = self.0.form_mut() else { return };
        let Some(run) = chunks.only_run() else { return };
        let (count, size) = (run.len(), run.size());
        chunks.is_quicklist &= !Room::of(directive).half().fits(count, LISTPACK_OVERHEAD + size);
        if !chunks.is_quicklist && size <= PACKED_SIZE / 2 {
            self.pack();
        }
    }

    #[cold]
    fn pack(&mut self) {
        let Form::Full(chunks) = self.0.form() else { return };
        let mut packed = Packed::new();
        if let Some(run) = chunks.only_run() {
            run.iter().for_each(|(_, item)| packed.push(item));
        }
        self.0 = Thin::packed(packed);
    }
}

/// Bytes that a listpack with the same elements takes.
#[inline]
fn listpack_size(packed: &Packed) -> usize {
    // Up to 127 bytes, an element's length takes one more.
    if packed.size() <= 127 {
        return LISTPACK_OVERHEAD + packed.size() + packed.len();
    }
    LISTPACK_OVERHEAD + packed.iter().map(|(_, item)| full_size(item)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contents(list: &List) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        list.each(0..list.len(), |element| all.push(element.to_vec()));
        all
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => "[0-9]{0,4}|[a-c]{1,2}".prop_map(String::into_bytes),
            2 => (1..200usize).prop_map(|len| vec![b'v'; len]),
            1 => (2000..9000usize).prop_map(|len| vec![b'w'; len]),
        ]
    }

    fn end(front: bool) -> End {
        if front { End::Front } else { End::Back }
    }

    proptest! {
        #[test]
        fn a_list_is_a_vector(
            directive in prop::sample::select(vec![-5, -2, -1, 0, 1, 3, 128]),
            steps in prop::collection::vec((0..9u8, any::<bool>(), any::<u16>(), value()), 0..150),
        ) {
            let mut list = List::default();
            let mut model: Vec<Vec<u8>> = Vec::new();
            for (step, front, place, value) in steps {
                let place = usize::from(place) % (model.len() + 1);
                match step {
                    0 | 1 => {
                        let values = [&value[..], b"second"];
                        list.push(end(front), values.into_iter(), directive);
                        for value in values {
                            model.insert(if front { 0 } else { model.len() }, value.to_vec());
                        }
                    }
                    2 => {
                        let got = list.pop(end(front), directive, |element| element.to_vec());
                        let wanted = (!model.is_empty()).then(|| model.remove(if front { 0 } else { model.len() - 1 }));
                        prop_assert_eq!(got, wanted);
                    }
                    3 => {
                        prop_assert_eq!(list.set(place, &value, directive), place < model.len());
                        if place < model.len() {
                            model[place] = value;
                        }
                    }
                    4 | 5 => {
                        let pivot = model.get(place).cloned().unwrap_or_else(|| b"none".to_vec());
                        let found = model.iter().position(|value| *value == pivot);
                        prop_assert_eq!(list.insert(front, &pivot, &value, directive), found.is_some());
                        if let Some(found) = found {
                            model.insert(found + usize::from(!front), value);
                        }
                    }
                    6 => {
                        let most = 1 + place % 3;
                        let unwanted = model.get(place).cloned().unwrap_or(value);
                        let mut found: Vec<_> =
                            (0..model.len()).filter(|&index| model[index] == unwanted).collect();
                        if !front {
                            found.reverse();
                        }
                        prop_assert_eq!(&list.find(Wanted::new(&unwanted), end(front), 0, usize::MAX, usize::MAX), &found);
                        found.truncate(most);
                        prop_assert_eq!(list.remove(&unwanted, end(front), most, directive), found.len());
                        let mut index = 0;
                        model.retain(|_| { index += 1; !found.contains(&(index - 1)) });
                    }
                    7 => {
                        let count = if place % 5 == 4 { model.len() / 2 } else { place % 4 };
                        let cut = list.cut(end(front), count).len();
                        prop_assert!(cut <= count);
                        list.drop(end(front), count - cut, directive);
                        let count = count.min(model.len());
                        if front { model.drain(..count); } else { model.truncate(model.len() - count); }
                    }
                    _ => prop_assert_eq!(list.get(place).map(Element::to_vec), model.get(place).cloned()),
                }
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(contents(&list), &model[..]);
            }
            let part: Vec<_> = model.iter().skip(model.len() / 3).cloned().collect();
            let mut got = Vec::new();
            list.each(model.len() / 3..model.len(), |element| got.push(element.to_vec()));
            prop_assert_eq!(got, part);
        }
    }

    #[test]
    fn a_long_list_is_found_by_index_and_shrinks_back() {
        let texts: Vec<String> = (0..200_000).map(|number| format!("element {number}")).collect();
        let mut list = List::of(texts.iter().map(String::as_bytes), -1);
        assert_eq!((list.len(), list.encoding()), (200_000, "quicklist"));
        for index in [0, 1, 99_999, 100_000, 150_001, 199_999] {
            assert_eq!(list.get(index).unwrap().to_vec(), texts[index].as_bytes());
        }
        let bytes = texts.iter().map(|text| text.len() + 2).sum::<usize>();
        assert!((bytes..bytes * 11 / 10).contains(&list.memory()), "{} for {bytes}", list.memory());
        let cut = list.cut(End::Front, 199_990);
        assert!(cut.len() > 150_000 && cut.get(0).unwrap().to_vec() == b"element 0");
        list.drop(End::Front, 199_990 - cut.len(), -1);
        assert_eq!((list.len(), list.encoding()), (10, "listpack"));
        assert_eq!(contents(&list), texts[199_990..].iter().map(|text| text.clone().into_bytes()).collect::<Vec<_>>());
    }
}
