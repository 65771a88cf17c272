//! Templates of random list commands; `generate` says what the words mean.

pub(super) const TEMPLATES: &[&str] = &[
    "LPUSH|RPUSH $k $v $v*",
    "LPUSH|RPUSH $k $v $v $v $v $v $v $v $v $v $v",
    "LPUSH|RPUSH|LPUSHX|RPUSHX $k $long ?$long",
    "LPUSHX|RPUSHX $k $v $v*",
    "LPOP|RPOP $k",
    "LPOP|RPOP $k 0|1|2|3|-1|$n",
    "LLEN $k",
    "LINDEX $k $n",
    "LSET $k 0|1|2|5|-1|-2|100|-100|abc|1.5 $v|$long",
    "LRANGE $k $n $n",
    "LRANGE $k 0 -1",
    "LTRIM $k 0|1|-100 -1|-2|100",
    "LTRIM $k $n $n",
    "LREM $k 0|1|2|-1|-2|$i $v",
    "LREM $k 0 0|1|abc",
    "LINSERT $k BEFORE|AFTER $v $v|$long",
    "LPOS $k $v ?RANK,$n ?COUNT,0|COUNT,$n ?MAXLEN,$n",
    "LPOS $k 0|1|10|abc ?RANK,-1|RANK,1|RANK,2|RANK,-2 ?COUNT,0|COUNT,2 ?MAXLEN,3|MAXLEN,10",
    "LMOVE $k $k LEFT|RIGHT LEFT|RIGHT",
    "RPOPLPUSH $k $k",
    "LMPOP 1|$i $k LEFT|RIGHT ?COUNT,2|COUNT,$n",
    "LMPOP 2 $k $k LEFT|RIGHT ?COUNT,10",
    "SET $k $v",
    "TYPE|PEXPIRETIME $k",
    "PEXPIREAT $k $atms",
    "RENAME|COPY $k $k",
    "DEL|UNLINK $k",
];

/// True for LSET with an index of more than 32 bits: real servers cut it down to that, and so overwrite another element.
pub(super) fn is_cut_short(words: &[Vec<u8>]) -> bool {
    let index = words.get(2).and_then(|word| std::str::from_utf8(word).ok()?.parse::<i64>().ok());
    words[0].eq_ignore_ascii_case(b"LSET") && index.is_some_and(|index| i32::try_from(index).is_err())
}
