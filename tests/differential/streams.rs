//! Templates of random stream commands; `generate` says what the words mean. No ID comes from the clock.
//! No XINFO STREAM: it counts the nodes of Redis's tree. No XGROUP DESTROY: after it, Redis 8.2 still asks the group
//! that is gone whether an entry is acknowledged. (Both are in the transcripts.)

use crate::support::Random;

pub(super) const TEMPLATES: &[&str] = &[
    "XADD k1|k2 $id a 1 ?b,2",
    "XADD k1|k2 $id a $v",
    "XADD k1|k2 $id $v $v $v $v",
    "XADD k1|k2 ?NOMKSTREAM ?KEEPREF|DELREF|ACKED ?MAXLEN,3|MINID,$id|MAXLEN,=,2|MAXLEN,~,0|MAXLEN,$n $id a 1",
    "XADD k1|k2 1-*|2-*|3-*|5-*|9-* a 1",
    "XLEN $k",
    "XRANGE k1|k2 -|$id|(,1 +|$id ?COUNT,1|COUNT,2|COUNT,$n",
    "XREVRANGE k1|k2 +|$id -|$id ?COUNT,1|COUNT,2|COUNT,$n",
    "XDEL k1|k2 $id $id $id*",
    "XDELEX k1|k2 ?KEEPREF|DELREF|ACKED IDS 1|2 $id ?$id",
    "XTRIM k1|k2 MAXLEN|MINID ?=|~ 0|1|2|3|$id ?LIMIT,$n ?KEEPREF|DELREF|ACKED",
    "XSETID k1|k2 $id ?ENTRIESADDED,$n ?MAXDELETEDID,$id",
    "XREAD ?COUNT,1|COUNT,$n STREAMS k1|k2|$k $id|0|+",
    "XREAD STREAMS k1 k2 $id|0 $id|0",
    "XGROUP CREATE k1|k2 g|h 0|$|$id ?MKSTREAM ?ENTRIESREAD,$n",
    "XGROUP CREATE k1|k2 g|h 0 MKSTREAM",
    "XGROUP SETID k1|k2 g|h 0|$|$id ?ENTRIESREAD,$n",
    "XGROUP CREATECONSUMER|DELCONSUMER k1|k2 g|h c|d",
    "XREADGROUP GROUP g|h c|d ?COUNT,1|COUNT,2 ?NOACK STREAMS k1|k2 >",
    "XREADGROUP GROUP g|h c|d ?COUNT,1|COUNT,2 STREAMS k1|k2 >",
    "XREADGROUP GROUP g|h c|d ?COUNT,1|COUNT,2 STREAMS k1|k2 0|$id",
    "XREADGROUP GROUP g c|d STREAMS k1 k2 > >",
    "XACK k1|k2 g|h $id $id",
    "XACKDEL k1|k2 g|h ?KEEPREF|DELREF|ACKED IDS 1|2 $id ?$id",
    "XPENDING k1|k2 g|h",
    "XPENDING k1|k2 g|h ?IDLE,0 -|$id +|$id 10|1 ?c|d",
    "XCLAIM k1|k2 g|h c|d 0 $id ?$id ?FORCE ?JUSTID ?RETRYCOUNT,5 ?LASTID,$id",
    "XAUTOCLAIM k1|k2 g|h c|d 0 0|$id ?COUNT,1|COUNT,2 ?JUSTID",
    "XINFO GROUPS k1|k2",
    "RENAME|COPY k1|k2 k1|k2",
    "DEL $k",
    "TYPE $k",
];

/// An ID that is likely to be there, or to come next.
pub(super) fn id(random: &mut Random) -> Vec<u8> {
    if random.one_in(30) {
        let odd = [
            "0-0",
            "0",
            "-1",
            "abc",
            "18446744073709551615-18446744073709551615",
            "1-",
            "(1",
            "007-1",
            "5-18446744073709551615",
        ];
        return odd[random.below(odd.len())].as_bytes().to_vec();
    }
    let (ms, seq) = (1 + random.below(12), random.below(4));
    if random.one_in(2) { format!("{ms}").into_bytes() } else { format!("{ms}-{seq}").into_bytes() }
}
