//! Plain data structures and algorithms on bytes: no reply, TTL, key, clock, lock or async in here.

mod bits;
mod counted;
mod hash;
mod lcs;
mod list;
mod list_chunk;
mod list_chunks;
mod longdouble;
mod object;
mod packed;
mod set;
mod stream;
mod string;
mod thin;
mod zset;
mod zset_full;
mod zset_index;

pub use bits::{BitOp, Field, Overflow, bit, combine, count_bits, find_bit, set_bit};
pub use hash::Hash;
pub use lcs::{Lcs, Match, lcs, lcs_len};
pub use list::List;
pub use list_chunk::{Element, Wanted};
pub use list_chunks::End;
pub use longdouble::LongDouble;
pub use object::{Collection, Object, ObjectMut, ObjectRef};
pub use packed::{Item, Items, PACKED_MAX, Packed};
pub use set::Set;
pub use stream::Stream;
pub use string::{append, edit, range, write_at};
pub use thin::{Form, Thin};
pub use zset::{ScoreBound, TextBound, Zset, ZsetIter};
