//! Random scripts on Cenote and on real servers, replies compared: the libraries, the conversions, and what Lua itself
//! says of odd arguments. `CENOTE_SEED` repeats a run, `CENOTE_RANDOM_SCRIPTS` sets how many.

use crate::support::{Oracle, Random, Server, Value};

/// Differences after which a run stops.
const ENOUGH: usize = 8;

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "3.5",
    "-0",
    "1/0",
    "-1/0",
    "0/0",
    "2^31",
    "2^32",
    "-2^31",
    "2^53",
    "2^63",
    "-2^63",
    "2^64",
    "1e300",
    "1e-300",
    "0.1",
    "127",
    "128",
    "255",
    "256",
    "-32",
    "-33",
    "-128",
    "-129",
    "65535",
    "65536",
    "-32768",
    "-32769",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "1e15",
    "123456789012345",
    "1.5e-7",
];
const STRINGS: &[&str] = &[
    r#""""#,
    r#""a""#,
    r#""abc""#,
    r#""\0x""#,
    r#"("x"):rep(31)"#,
    r#"("x"):rep(32)"#,
    r#"("x"):rep(256)"#,
    r#""1""#,
    r#""10""#,
    r#""0x10""#,
    r#"" 5 ""#,
    r#""1e3""#,
    r#""\200\255""#,
    r#""a/b\"c\\""#,
    r#""\127\1\n\r\t""#,
];
const FIELDS: &[&str] = &[
    "a",
    "b",
    r#"["c d"]"#,
    "[1]",
    "[2]",
    "[5]",
    "[1.5]",
    "[-1]",
    "[true]",
    "[100]",
    "err",
    "ok",
    "double",
    "map",
    "set",
    "big_number",
    "verbatim_string",
    "format",
    "string",
];
const FORMATS: &[&str] = &[
    "b",
    "B",
    "h",
    "H",
    "l",
    "L",
    "T",
    "i",
    "I",
    "i1",
    "i2",
    "i3",
    "I4",
    "i7",
    "i8",
    "i9",
    "i16",
    "i32",
    "i33",
    "I0",
    "c",
    "c0",
    "c1",
    "c3",
    "c10",
    "s",
    "f",
    "d",
    "x",
    "<",
    ">",
    "!",
    "!1",
    "!2",
    "!4",
    "!8",
    "!3",
    "!16",
    " ",
    "z",
    "?",
    "n",
    "1",
    "i99999999999",
];
const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    r#""a""#,
    r#""b""#,
    r#""\\u0041""#,
    r#""\\ud83d\\ude00""#,
    r#""\\ud83d""#,
    r#""\\x""#,
    "1",
    "-1",
    "1.5",
    "1e5",
    "01",
    "0x1F",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "null",
    "true",
    "false",
    "nul",
    " ",
    r"\n",
    r#"""#,
    "1e400",
    "-",
    "+1",
    ".5",
    "1.",
    r"\0",
    r#"{"a":1}"#,
    "[1,2]",
    "{}",
    "[]",
];
const PATTERNS: &[&str] =
    &[r#""%d""#, r#""%s %s""#, r#""%5.2f""#, r#""%q""#, r#""(a)(b)""#, r#""[a-c]+""#, r#""%b()""#];
const FAILING: &[&str] = &[
    r#"error,"x""#,
    r#"error,{err="E x"}"#,
    "error,nil",
    r#"redis.call,"nope""#,
    "redis.call",
    r#"cjson.decode,"{""#,
    r#"cmsgpack.unpack,"\221""#,
    r#"struct.pack,"i33",1"#,
    "string.rep",
    "table.concat,{1,{}}",
    "setmetatable,redis,{}",
    r#"rawset,_G,"x",1"#,
    "table.insert,redis,1",
    r#"next,{},"x""#,
    "function() return nofoo end",
    "function() foo=1 end",
    "function() redis.x=1 end",
];
const IN_RESP3: &[&str] = &[
    r#""hgetall","h""#,
    r#""smembers","s""#,
    r#""get","nokey""#,
    r#""zrange","z","0","-1","withscores""#,
    r#""zscore","z","a""#,
    r#""ping""#,
    r#""set","k","v""#,
    r#""lrange","l",0,-1"#,
    r#""config","get","x""#,
];

/// Writes scripts.
struct Writer<'r> {
    random: &'r mut Random,
}

impl Writer<'_> {
    fn one(&mut self, choices: &[&str]) -> String {
        self.random.pick(choices).to_owned()
    }

    fn list(&mut self, most: usize, mut item: impl FnMut(&mut Self) -> String) -> String {
        let count = self.random.below(most + 1);
        (0..count).map(|_| item(self)).collect::<Vec<_>>().join(",")
    }

    fn scalar(&mut self) -> String {
        if self.random.one_in(2) { self.one(NUMBERS) } else { self.one(STRINGS) }
    }

    fn value(&mut self, depth: usize) -> String {
        match self.random.below(8) {
            0..=3 => self.scalar(),
            4 => self.one(&["nil", "true", "false", "cjson.null", "tostring", "{}"]),
            _ if depth > 3 => "1".to_owned(),
            5 | 6 => format!("{{{}}}", self.list(4, |writer| writer.value(depth + 1))),
            _ => {
                let fields = self.list(3, |writer| format!("{}={}", writer.one(FIELDS), writer.value(depth + 1)));
                format!("{{{fields}}}")
            }
        }
    }

    fn bytes(&mut self) -> String {
        let count = self.random.below(12);
        let heads = [0x90, 0x91, 0x81, 0xa1, 0xa2, 0xc4, 0xca, 0xcc, 0xcd, 0xd0, 0xd9, 0xdc, 0xde, 1, 2];
        let byte = |random: &mut Random| if random.one_in(2) { random.below(256) } else { heads[random.below(15)] };
        let text: String = (0..count).map(|_| format!("\\{:03}", byte(self.random))).collect();
        format!("\"{text}\"")
    }

    fn joined(&mut self, most: usize, choices: &[&str]) -> String {
        let count = self.random.below(most + 1);
        (0..count).map(|_| self.one(choices)).collect()
    }

    fn script(&mut self) -> String {
        match self.random.below(20) {
            0 => format!("return {}", self.value(0)),
            1 => format!("return cmsgpack.pack({})", self.list(3, |writer| writer.value(0))),
            2 | 3 => format!("return {{cmsgpack.unpack({})}}", self.bytes()),
            4 => {
                format!("return {{cmsgpack.unpack_one({},{})}}", self.bytes(), self.one(&["0", "1", "5", "-1", "nil"]))
            }
            5 => {
                let (limit, offset) = (self.one(&["0", "1", "2", "-1", "100"]), self.one(&["0", "1", "5", "-1"]));
                format!("return {{cmsgpack.unpack_limit({},{limit},{offset})}}", self.bytes())
            }
            6 | 7 => {
                let args: String = (0..self.random.below(6)).map(|_| format!(",{}", self.scalar())).collect();
                format!("return struct.pack(\"{}\"{args})", self.joined(6, FORMATS))
            }
            8 | 9 => {
                let (bytes, at) = (self.bytes(), self.one(&["", ",1", ",3", ",0", ",-1", ",100"]));
                format!("return {{struct.unpack(\"{}\",{bytes}{at})}}", self.joined(6, FORMATS))
            }
            10 => format!("return struct.size(\"{}\")", self.joined(6, FORMATS)),
            11 | 12 => format!("return cjson.encode({})", self.value(0)),
            13 | 14 => format!("local v=cjson.decode('{}') return {{type(v),cjson.encode(v)}}", self.joined(5, JSON)),
            15 => {
                const NAMES: &[&str] =
                    &["band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "tohex", "bnot", "bswap"];
                format!("return {{bit.{}({},{})}}", self.one(NAMES), self.scalar(), self.scalar())
            }
            16 => format!("redis.setresp(3) return redis.call({})", self.one(IN_RESP3)),
            17 => {
                const NAMES: &[&str] =
                    &["format", "rep", "sub", "byte", "char", "upper", "len", "find", "match", "gsub"];
                let name = self.one(NAMES);
                let arg =
                    |writer: &mut Self| if writer.random.one_in(3) { writer.one(PATTERNS) } else { writer.scalar() };
                format!("return {{string.{name}({})}}", self.list(3, arg))
            }
            18 => format!("return {{pcall({})}}", self.one(FAILING)),
            _ => {
                let name = self.one(&["call", "pcall"]);
                let words = &[r#""get""#, r#""set""#, r#""k""#, r#""incr""#, r#""mget""#, r#""lrange""#, "0", "-1"];
                format!("return redis.{name}({})", self.list(4, |writer| writer.one(words)))
            }
        }
    }
}

/// A reply without what is a server's own: its word for itself, addresses, the script's name in errors.
fn plain(value: &Value) -> String {
    let text = format!("{value:?}").replace("Unknown command called", "Unknown Redis command called");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(" script: ") {
        let (head, tail) = rest.split_at(at + " script: ".len());
        out.push_str(head);
        rest = tail.find("on @").map_or(tail, |at| &tail[at..]);
    }
    out.push_str(rest);
    let is_address = |text: &str| ["function: ", "table: ", "userdata: "].iter().any(|kind| text.contains(kind));
    if is_address(&out) { "an address".to_owned() } else { out }
}

#[test]
fn random_scripts_answer_as_on_real_servers() {
    let count = std::env::var("CENOTE_RANDOM_SCRIPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000);
    let seed = Random::seed();
    println!("CENOTE_SEED={seed}");
    let mut random = Random::new(seed);
    let servers =
        [Server::cenote().start(), Server::oracle(Oracle::Redis8).start(), Server::oracle(Oracle::Valkey9).start()];
    let mut clients: Vec<_> = servers.iter().map(Server::client).collect();
    for client in &mut clients {
        for words in
            [&["HSET", "h", "a", "1"][..], &["SADD", "s", "a"], &["ZADD", "z", "1.5", "a"], &["RPUSH", "l", "x"]]
        {
            client.cmd(words);
        }
    }
    let mut differences = Vec::new();
    for _ in 0..count {
        let script = Writer { random: &mut random }.script();
        let replies: Vec<_> = clients.iter_mut().map(|client| plain(&client.cmd(&["EVAL", &script, "0"]))).collect();
        if replies[0] != replies[1] && replies[0] != replies[2] {
            differences
                .push(format!("{script}\n  cenote {}\n  redis8 {}\n  valkey {}", replies[0], replies[1], replies[2]));
        }
        if differences.len() >= ENOUGH {
            break;
        }
    }
    assert!(differences.is_empty(), "CENOTE_SEED={seed}\n{}", differences.join("\n"));
}
