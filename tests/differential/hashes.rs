//! Random commands on hashes and sets. Orders differ between servers as soon as a hash or set is a table, so what has no
//! order is compared without one. SPOP is left to the transcripts: after it, no two servers hold the same.

/// Commands on hashes, as both servers have them.
pub(super) const HASHES: &[&str] = &[
    "HSET|HMSET $k $v,$v $v,$v*",
    "HSET $k f1|f2|f3 $i",
    "HSETNX $k $v $v",
    "HGET|HEXISTS|HSTRLEN $k $v",
    "HGET $k f1|f2|f3",
    "HMGET $k $v $v*",
    "HDEL $k $v $v*",
    "HDEL $k f1 f2 f3",
    "HLEN|HGETALL|HKEYS|HVALS $k",
    "HINCRBY $k $v $i",
    "HINCRBY $k f1|f2|f3 $i",
    "HINCRBYFLOAT $k $v $f",
    "HINCRBYFLOAT $k f1|f2|f3 $f",
    "HRANDFIELD $k 100000 ?WITHVALUES",
    "HRANDFIELD $k 0|9223372036854775807|-9223372036854775808|abc ?WITHVALUES",
    "HRANDFIELD none ?$i ?WITHVALUES",
    "TYPE|DEL $k",
    "EXPIRE $k $sec",
    "SET $k $v",
    "COPY|RENAME $k $k",
];

/// Commands on the TTLs of fields.
pub(super) const FIELD_TTLS: &[&str] = &[
    "HSET $k f1,$v f2,$v f3,$v",
    "HSET $k f1|f2|f3|f4 $v",
    "HEXPIRE $k $sec ?NX|XX|GT|LT FIELDS 2 f1|f3 f2|f4",
    "HPEXPIRE $k $ms ?NX|XX|GT|LT FIELDS 1 f1|f2|f3|f4",
    "HEXPIREAT $k $at ?NX|XX|GT|LT FIELDS 2 f1|f3 f2|f4",
    "HPEXPIREAT $k $atms ?NX|XX|GT|LT FIELDS 1 f1|f2|f3|f4",
    "HEXPIREAT $k $at ?NX|XX ?GT|LT FIELDS $i f1|f2",
    "HEXPIRETIME|HPEXPIRETIME $k FIELDS 4 f1 f2 f3 f4",
    "HTTL|HPTTL $k FIELDS 1 f4|f5|f6",
    "HPERSIST|HGETDEL|HEXPIRETIME $k FIELDS 2 f1|f3 f2|f4",
    "HPERSIST|HGETDEL|HEXPIRETIME|HTTL $k FIELDS $i f1|f3 f2|f4",
    "HGETEX $k ?EX,$sec|PX,$ms|EXAT,$at|PXAT,$atms|PERSIST FIELDS 2 f1|f3 f2|f4",
    "HSETEX $k ?NX|XX ?FNX|FXX ?EX,$sec|PX,$ms|EXAT,$at|PXAT,$atms|KEEPTTL FIELDS 2 f1|f3 $v f2|f4 $v",
    "HSETEX $k ?EXAT,$at|PXAT,$atms|KEEPTTL FIELDS 1 f1|f2|f3|f4 $v",
    "HGETALL|HLEN|DEL|HKEYS|HVALS $k",
    "HSETNX $k f1|f2|f3 $v",
    "HINCRBY $k f1|f2|f3 $i",
    "HINCRBYFLOAT $k f1|f2|f3 $f",
    "HDEL $k f1|f2|f3 f4|f2",
    "COPY|RENAME $k $k",
    "SET $k $v",
];

/// Commands on sets.
pub(super) const SETS: &[&str] = &[
    "SADD $k $v $v*",
    "SADD $k $i $i*",
    "SADD $k $elements",
    "SREM $k $v $v*",
    "SREM $k $elements",
    "SISMEMBER $k $v",
    "SMISMEMBER $k $v $v*",
    "SCARD|SMEMBERS $k",
    "SMOVE $k $k $v",
    "SINTER|SUNION|SDIFF $k $k*",
    "SINTERSTORE|SUNIONSTORE|SDIFFSTORE $k $k $k*",
    "SINTERCARD 2 $k $k ?LIMIT,$n",
    "SINTERCARD $i $k $k* ?LIMIT,$n",
    "SRANDMEMBER $k 100000|0|abc|-9223372036854775808",
    "SRANDMEMBER none ?$i",
    "TYPE|DEL $k",
    "SET $k $v",
    "COPY|RENAME $k $k",
];
