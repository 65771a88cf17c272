//! Plain data structures and algorithms on bytes: no reply, TTL, key, clock, lock or async in here.

mod bits;
mod compressed;
mod counted;
mod geo;
mod hash;
mod hash_table;
mod hashing;
mod hll;
mod id_map;
mod intset;
mod lcs;
mod list;
mod list_chunk;
mod list_chunks;
mod longdouble;
mod member;
mod object;
mod packed;
mod prefetch;
mod set;
mod stream;
mod stream_block;
mod stream_group;
mod string;
mod table;
mod thin;
mod zset;
mod zset_full;
mod zset_index;

pub use bits::{BitOp, Field, Overflow, bit, combine, count_bits, find_bit, set_bit};
pub use compressed::{compress, expand, expanded_len};
pub use geo::{Place as GeoPlace, Shape as GeoShape};
pub use hash::{FieldTtl, FieldValue, Hash};
pub use hashing::hash_of;
pub use hll::{
    Corrupt, HllForm, Registers, hll_add, hll_add_dense, hll_cached, hll_count, hll_decode, hll_form, hll_lacks,
    hll_make_dense, hll_new, hll_self_test, hll_set_cached, hll_set_stale,
};
pub use lcs::{Lcs, Match, lcs, lcs_len};
pub use list::List;
pub use list_chunk::{Element, Wanted};
pub use list_chunks::End;
pub use longdouble::LongDouble;
pub use member::Member;
pub use object::{Collection, Object, ObjectMut, ObjectRef};
pub use packed::{Item, Items, PACKED_MAX, Packed};
pub use prefetch::prefetch;
pub use set::Set;
pub use stream::{Entry, Group, Id, Keep, Limits as StreamLimits, References, Removal, Stream, StreamPart, Trim};
pub use stream_group::{Consumer, Pending};
pub use string::{append, edit, range};
pub use table::{CURSOR_BITS, Place, Slot, Table, tag_of};
pub use thin::{FULL, Form, Thin};
pub use zset::{ScoreBound, TextBound, Zset, ZsetIter};
