//! Templates of random sorted set and geo commands, and the words that only they have: `$score` a score, `$m` a member, `$s`
//! a short one,
//! `$min` an end of a range of scores, `$lex` one of members, `$lon` `$lat` a place, `$dist` a distance.

use crate::support::Random;

pub(super) const TEMPLATES: &[&str] = &[
    "ZADD $k ?NX|XX ?GT|LT ?CH $score $m $score,$m $score,$m",
    "ZADD $k $score $m $score $m $score $m $score $m $score $m",
    "ZADD $k ?NX|XX ?GT|LT ?CH ?INCR $score $m",
    "ZINCRBY $k $score $m",
    "ZREM $k $m $m*",
    "ZSCORE|ZRANK|ZREVRANK $k $m",
    "ZRANK|ZREVRANK $k $m WITHSCORE",
    "ZMSCORE $k $m $m*",
    "ZCARD $k",
    "ZCOUNT $k $min $min",
    "ZRANGE $k 0 -1 WITHSCORES",
    "ZRANGE $k $n $n ?REV ?WITHSCORES ?LIMIT,$n,$n",
    "ZRANGE $k $min $min BYSCORE ?REV ?WITHSCORES ?LIMIT,0|LIMIT,1|LIMIT,$n,$n",
    "ZRANGE $k -inf|$min +inf|$min BYSCORE ?LIMIT,1,2|LIMIT,0,-1|LIMIT,2,100",
    "ZRANGE $k +inf -inf BYSCORE REV ?LIMIT,1,2|LIMIT,0,-1|LIMIT,2,100",
    "ZREVRANGE $k $n $n ?WITHSCORES",
    "ZRANGEBYSCORE|ZREVRANGEBYSCORE $k $min $min ?WITHSCORES ?LIMIT,0,3|LIMIT,1,-1",
    "ZRANGESTORE $k $k $n $n ?REV",
    "ZRANGESTORE $k $k $min $min BYSCORE ?REV ?LIMIT,0,3|LIMIT,1,-1",
    "ZREMRANGEBYRANK $k 0|1|-1|$n 0|1|-1|$n",
    "ZREMRANGEBYSCORE $k $min $min",
    "ZPOPMIN|ZPOPMAX $k ?0|1|2|$n",
    "ZMPOP 1|$i $k MIN|MAX ?COUNT,2|COUNT,$n",
    "ZMPOP 2 $k $k MIN|MAX ?COUNT,10",
    "BZPOPMIN|BZPOPMAX $k $k* 0.001",
    "BZMPOP 0.001 2 $k $k MIN|MAX ?COUNT,2",
    "ZRANDMEMBER $k ?0|1000|-5|abc|1.5 ?WITHSCORES",
    "ZUNION|ZINTER 2 $k $k ?WEIGHTS,$score,$score ?AGGREGATE,SUM|AGGREGATE,MIN|AGGREGATE,MAX ?WITHSCORES",
    "ZUNION|ZINTER|ZDIFF 3 $k $k $k WITHSCORES",
    "ZDIFF $i|1|2 $k $k ?WITHSCORES",
    "ZUNIONSTORE|ZINTERSTORE $k 2 $k $k ?WEIGHTS,$score,$score ?AGGREGATE,SUM|AGGREGATE,MIN|AGGREGATE,MAX",
    "ZDIFFSTORE $k 2 $k $k",
    "ZINTERCARD 2 $k $k ?LIMIT,$n",
    "ZSCAN $k 0 ?COUNT,1000|0|abc ?MATCH,*a*",
    "SADD $k $m $m $m",
    "SET $k $v",
    "TYPE|PEXPIRETIME $k",
    "PEXPIREAT $k $atms",
    "RENAME|COPY $k $k",
    "DEL|UNLINK $k",
];

/// Ranges of members: where scores differ they mean something only in packed sets, so these stay small.
pub(super) const LEX: &[&str] = &[
    "ZADD $k 0 $s 0 $s 0 $s",
    "ZADD $k 0 $s $score $s",
    "ZRANGE $k $lex $lex BYLEX ?REV ?LIMIT,0,3|LIMIT,1,-1|LIMIT,$n,$n",
    "ZRANGE $k - + BYLEX ?LIMIT,1,2",
    "ZRANGE $k + - BYLEX REV ?LIMIT,1,2",
    "ZRANGEBYLEX|ZREVRANGEBYLEX $k $lex $lex ?LIMIT,0,3|LIMIT,1,-1",
    "ZLEXCOUNT $k $lex $lex",
    "ZRANGESTORE $k $k $lex $lex BYLEX ?REV ?LIMIT,0,3",
    "ZREMRANGEBYLEX $k $lex $lex",
    "ZREM $k $s",
    "ZRANGE $k 0 -1 WITHSCORES",
    "DEL $k",
];

/// Places and searches among them.
pub(super) const GEO: &[&str] = &[
    "GEOADD $k ?NX|XX ?CH $lon $lat $m $lon,$lat,$m $lon,$lat,$m",
    "GEOADD $k $lon $lat $m $lon $lat $m $lon $lat $m $lon $lat $m",
    "GEOPOS|GEOHASH $k $m $m*",
    "GEODIST $k $m $m ?m|km|ft|mi",
    "GEOSEARCH $k FROMMEMBER $m BYRADIUS $dist m|km|mi ?ASC|DESC ?COUNT,2|COUNT,3,ANY ?WITHDIST ?WITHCOORD ?WITHHASH",
    "GEOSEARCH $k FROMLONLAT $lon $lat BYRADIUS $dist m|km|ft ?ASC|DESC ?COUNT,2|COUNT,3,ANY ?WITHDIST",
    "GEOSEARCH $k FROMLONLAT $lon $lat BYBOX $dist $dist m|km ?ASC|DESC ?COUNT,1|COUNT,2,ANY ?WITHDIST ?WITHCOORD",
    "GEOSEARCH $k FROMMEMBER $m BYBOX $dist $dist m|km|mi ?ASC|DESC ?WITHDIST",
    "GEOSEARCHSTORE $k $k FROMLONLAT $lon $lat BYRADIUS $dist m|km ?COUNT,3 ?STOREDIST",
    "GEOSEARCHSTORE $k $k FROMMEMBER $m BYBOX $dist $dist km ?STOREDIST",
    "GEORADIUS $k $lon $lat $dist m|km ?WITHDIST ?WITHHASH ?ASC|DESC ?COUNT,2 ?STORE,$k|STOREDIST,$k",
    "GEORADIUSBYMEMBER $k $m $dist m|km ?WITHCOORD ?ASC|DESC ?COUNT,2 ?STORE,$k|STOREDIST,$k",
    "GEORADIUS_RO $k $lon $lat $dist m|km ?WITHDIST",
    "GEORADIUSBYMEMBER_RO $k $m $dist m|km ?WITHDIST ?ASC|DESC",
    "ZRANGE $k 0 -1 WITHSCORES",
    "ZREM $k $m",
    "DEL $k",
    "SET $k $v",
];

const SCORES: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "-1",
    "-2",
    "1",
    "2",
    "0.5",
    "1.5",
    "-0",
    "inf",
    "-inf",
    "+inf",
    "1e300",
    "-1e300",
    "1e-300",
    "3.1",
    "0.1",
    "0.2",
    "123456789.123",
    "1e17",
    "4611686018427387904",
    "9223372036854775807",
    "1e21",
    "5e-324",
    "0.000001",
    "1.1e-7",
    "100000000000000000000",
    "-12345678901234567890",
    "0.1234567890123456789",
    "1e5",
];
const ODD_SCORES: &[&str] = &[
    "nan", "-nan", "abc", "", " 1", "1 ", "1e400", "-1e400", "1e-400", "1e", ".", ".5", "5.", "+5", "++5", "(1",
    "Infinity",
];

const MEMBERS: &[&[u8]] = &[
    b"a member of more than sixty-four bytes, at which no packed set stays packed",
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"aa",
    b"ab",
    b"ba",
    b"",
    b"1",
    b"2",
    b"10",
    b"-1",
    b"007",
    b"9223372036854775807",
    b"A",
    b"\xff\x00",
    b"\x80",
    b"[",
    b"(",
    b"-",
    b"+",
    b"a rather long member",
    b"nx",
];

/// A word of these templates, if it is one.
pub(super) fn word(part: &str, random: &mut Random) -> Option<Vec<u8>> {
    let score = |random: &mut Random| match random.below(24) {
        0 => random.pick(ODD_SCORES).to_string(),
        1..=3 => format!("{}", random.below(1 << 30) as f64 / (1u64 << random.below(40)) as f64),
        _ => random.pick(SCORES).to_string(),
    };
    let text = match part {
        "$score" => score(random),
        "$s" => return Some(random.pick(&MEMBERS[1..]).to_vec()),
        "$m" => return Some(random.pick(MEMBERS).to_vec()),
        "$min" => format!("{}{}", random.pick(&["", "", "("]), score(random)),
        "$lon" | "$lat" | "$dist" if random.one_in(30) => {
            random.pick(&["abc", "", "inf", "nan", "181", "-91", "1e300"]).to_string()
        }
        "$lon" => coordinate(180, random),
        "$lat" => coordinate(85, random),
        "$dist" => format!("{}", 10f64.powi(random.below(8) as i32) * random.below(1000) as f64 / 100.0),
        "$lex" if random.one_in(16) => random.pick(&["", "a", "-a", "+a", "[", "(", "((", "abc"]).to_string(),
        "$lex" if random.one_in(4) => random.pick(&["-", "+"]).to_string(),
        "$lex" => return Some([random.pick(&[b"[", b"("]).as_slice(), random.pick(&MEMBERS[1..])].concat()),
        _ => return None,
    };
    Some(text.into_bytes())
}

/// True for a hexadecimal score, which Redis 8.2 reads and Valkey 9.1 does not; and for GEORADIUS that ends in STORE: without
/// its keys Cenote locks none, and so sees a syntax error before it could see the source's type.
pub(super) fn is_disputed(words: &[Vec<u8>]) -> bool {
    let name = words[0].to_ascii_uppercase();
    let ends_in_store = words.last().is_some_and(|word| word.to_ascii_uppercase().starts_with(b"STORE"));
    matches!(name.first(), Some(b'Z' | b'G' | b'B')) && words.iter().any(|word| word.starts_with(b"0x"))
        || name.starts_with(b"GEORADIUS") && ends_in_store
}

/// A coordinate, often near to few others.
fn coordinate(most: usize, random: &mut Random) -> String {
    let fine = random.below(1_000_000) as f64 / 1e6;
    match random.below(4) {
        0 => format!("{}", random.below(2 * most) as f64 - most as f64 + fine),
        1 => format!("{}", random.below(4) as f64 - 2.0 + fine),
        2 => {
            format!("{}", random.pick(&["15", "-15", "80", "0", "-84.9", "67"]).parse::<f64>().unwrap() + fine / 100.0)
        }
        _ => format!("{}", most as f64 - fine * fine * 10.0),
    }
}
