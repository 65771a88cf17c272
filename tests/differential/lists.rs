//! Templates of random list commands; `generate` says what the words mean.

pub(super) const TEMPLATES: &[&str] = &[
    "LPUSH|RPUSH $k $v $v*",
    "LPUSH|RPUSH $k $v $v $v $v $v $v $v $v $v $v",
    "LPUSH|RPUSH|LPUSHX|RPUSHX $k $long ?$long",
    "LPUSHX|RPUSHX $k $v $v*",
    "LPOP|RPOP $k",
    "LPOP|RPOP $k 0|1|2|3|-1|$n",
    "BLPOP|BRPOP $k $k* 0.001",
    "BLMOVE $k $k LEFT|RIGHT LEFT|RIGHT 0.001",
    "BLMPOP 0.001 2 $k $k LEFT|RIGHT ?COUNT,2",
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

/// SORT of lists and of integers; elements name some of the other keys. Not of sorted sets, which SORT unpacks in Redis
/// (then they keep -0), nor of sets, whose order decides where weights are equal; nor by weights that are text with LIMIT,
/// where Redis leaves open which of equal weight come first.
pub(super) const SORT: &[&str] = &[
    "RPUSH $k 1|2|3|$v 2|3|$v 1|$i",
    "RPUSH $k 1|2|3 1|2|3|4 $f",
    "SADD $k 1 2 3",
    "SET $k $v|$i|$f",
    "HSET $k f $v g $i",
    "SORT $k ?DESC|ASC ?BY,k*|BY,k*->f|BY,k*->g|BY,nosort ?LIMIT,$n,$n ?GET,#|GET,k*|GET,k*->g|GET,*|GET,none",
    "SORT $k ALPHA ?DESC ?BY,nosort ?LIMIT,0,2|LIMIT,1,5 GET # GET k* ?GET,k*->f",
    "SORT $k ALPHA ?DESC ?BY,k*|BY,k*->f|BY,nosort GET # GET k* ?GET,k*->f",
    "SORT $k ALPHA ?DESC ?BY,k* ?GET,k* STORE $k",
    "SORT_RO $k ALPHA ?BY,k*->f ?GET,# ?DESC",
    "LRANGE $k 0 -1",
    "TYPE|DEL $k",
    "PEXPIREAT $k $atms",
];

/// True for LSET with an index of more than 32 bits: real servers cut it down to that, and so overwrite another element; and
/// for what would wait for a second or for ever.
pub(super) fn is_cut_short(words: &[Vec<u8>]) -> bool {
    let index = words.get(2).and_then(|word| std::str::from_utf8(word).ok()?.parse::<i64>().ok());
    let waits = words[0].first().is_some_and(|first| first.eq_ignore_ascii_case(&b'B'))
        && !words[0].to_ascii_uppercase().starts_with(b"BIT")
        && words.iter().filter(|word| *word == b"0.001").count() != 1;
    waits || words[0].eq_ignore_ascii_case(b"LSET") && index.is_some_and(|index| i32::try_from(index).is_err())
}
