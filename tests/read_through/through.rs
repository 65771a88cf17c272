//! Writes to routed keys: refused, taken to the database first, or followed by the keys that are void after them.

use super::rig::{Rig, error, exec, run, until, words};
use crate::support::Value;

const TABLES: &str = "
    CREATE TABLE accounts (id int PRIMARY KEY, name text UNIQUE, age int CHECK (age >= 0), note text DEFAULT 'none',
        photo bytea, changes int NOT NULL DEFAULT 0);
    INSERT INTO accounts (id, name, age) VALUES (1, 'ann', 30), (2, 'bob', NULL);
    CREATE FUNCTION count_changes() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.changes := OLD.changes + 1; RETURN NEW; END';
    CREATE TRIGGER count_changes BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION count_changes();
    CREATE TABLE options (owner text, field text, value text, PRIMARY KEY (owner, field));
    CREATE TABLE later (id int PRIMARY KEY, other int REFERENCES accounts DEFERRABLE INITIALLY DEFERRED);
";

const ROUTES: &str = r#"
    [[route]]
    key = "account:{id}"
    query = "SELECT name, age, note, changes FROM accounts WHERE id = {id}"
    as = "hash"
    ttl = "1h"
    writes = "through"
    invalidates = ["page:{id}", "pages"]
    [route.write]
    hset = "UPDATE accounts SET name = coalesce({name}, name), age = coalesce({age}, age) WHERE id = {id}"
    del = "DELETE FROM accounts WHERE id = {id}"

    [[route]]
    key = "name:{id}"
    query = "SELECT name FROM accounts WHERE id = {id}"
    as = "string"
    ttl = "1h"
    writes = "through"
    [route.write]
    set = "INSERT INTO accounts (id, name) VALUES ({id}, {value}) ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    del = "DELETE FROM accounts WHERE id = {id}"

    [[route]]
    key = "photo:{id}"
    query = "SELECT photo FROM accounts WHERE id = {id}"
    as = "string"
    ttl = "1h"
    writes = "through"
    [route.write]
    set = "UPDATE accounts SET photo = {value} WHERE id = {id}"

    [[route]]
    key = "options:{owner}"
    query = "SELECT field, value FROM options WHERE owner = {owner}"
    as = "hash"
    rows = "many"
    ttl = "1h"
    writes = "through"
    [route.write]
    hset = "INSERT INTO options VALUES ({owner}, {field}, {value}) ON CONFLICT (owner, field) DO UPDATE SET value = excluded.value"
    del = "DELETE FROM options WHERE owner = {owner}"

    [[route]]
    key = "later:{id}"
    query = "SELECT other FROM later WHERE id = {id}"
    as = "string"
    ttl = "1h"
    writes = "through"
    [route.write]
    set = "INSERT INTO later VALUES ({id}, {value})"

    [[route]]
    key = "fixed:{id}"
    query = "SELECT name FROM accounts WHERE id = {id}"
    as = "string"
    ttl = "1h"
    writes = "reject"

    [[route]]
    key = "own:{id}"
    query = "SELECT name FROM accounts WHERE id = {id}"
    as = "string"
    ttl = "1h"
    invalidates = ["page:{id}", "pages"]
"#;

fn start() -> Rig {
    let rig = Rig::with("", ROUTES, &["--workers", "2"]);
    rig.postgres.sql(TABLES);
    rig
}

fn row(rig: &Rig, columns: &str, id: i32) -> String {
    rig.postgres.sql(&format!("SELECT {columns} FROM accounts WHERE id = {id}"))
}

#[test]
fn what_is_written_is_in_the_database_and_read_from_there() {
    let rig = start();
    let mut client = rig.client();
    assert_eq!(run(&mut client, "HGET account:1 age"), Value::bulk("30"));
    assert_eq!(run(&mut client, "HSET account:1 age 31"), Value::Int(0));
    assert_eq!(row(&rig, "name, age", 1), "ann|31");
    assert_eq!(run(&mut client, "EXISTS account:1"), Value::Int(0), "the copy is gone");
    // What a trigger made of it is seen.
    let all = ["31", "1"].map(Value::bulk).to_vec();
    assert_eq!(run(&mut client, "HMGET account:1 age changes"), Value::Array(all));
    // Fields that are new are counted: a NULL is none.
    assert_eq!(run(&mut client, "HSET account:2 age 20 name bo"), Value::Int(1));
    assert_eq!(run(&mut client, "HMSET account:2 age 21 age 22"), Value::ok());
    assert_eq!(row(&rig, "name, age", 2), "bo|22");
    for (line, text) in [
        ("SET name:3 cid", "cid"),
        ("SET name:3 cyd EX 100", "cyd"),
        ("SETEX name:3 100 Cid", "Cid"),
        ("PSETEX name:3 100 Cyd", "Cyd"),
        ("SET name:3 cee KEEPTTL", "cee"),
    ] {
        assert_eq!(run(&mut client, line), Value::ok(), "{line}");
        assert_eq!(
            (row(&rig, "name", 3).as_str(), run(&mut client, "GET name:3")),
            (text, Value::bulk(text)),
            "{line}"
        );
    }
    assert!(run(&mut client, "TTL name:3").int() > 3_000, "what was loaded has its route's ttl");
    // Any bytes, where the column takes them.
    assert_eq!(client.cmd(&[&b"SET"[..], b"photo:1", b"\x00\xff\r\n"]), Value::ok());
    assert_eq!(run(&mut client, "GET photo:1"), Value::bulk(&b"\x00\xff\r\n"[..]));
    // Field by field, in one transaction.
    assert_eq!(run(&mut client, "HSET options:x a 1 b 2"), Value::Int(2));
    assert_eq!(run(&mut client, "HSET options:x b 3 c 4"), Value::Int(1));
    assert_eq!(run(&mut client, "HVALS options:x").items().len(), 3);
    assert_eq!(rig.postgres.sql("SELECT string_agg(field || value, ',' ORDER BY field) FROM options"), "a1,b3,c4");
    assert_eq!(run(&mut client, "SET plain value"), Value::ok());
    assert_eq!(run(&mut client, "DEL options:x plain options:none name:3"), Value::Int(3));
    assert_eq!(rig.postgres.sql("SELECT count(*) FROM options"), "0");
    assert_eq!(run(&mut client, "UNLINK account:2"), Value::Int(1));
    assert_eq!(row(&rig, "1", 2), "");
    assert_eq!(run(&mut client, "HGETALL account:2"), Value::Array(vec![]));
}

#[test]
fn the_databases_refusal_is_one_line_and_changes_nothing() {
    let rig = start();
    let mut client = rig.client();
    for (line, text) in [
        (
            "HSET account:1 age -1",
            "a constraint of the database refuses the write, accounts_age_check (SQLSTATE 23514)",
        ),
        (
            "HSET account:1 name bob",
            "a constraint of the database refuses the write, accounts_name_key (SQLSTATE 23505)",
        ),
        ("HSET account:1 age young", "the database refuses the write (SQLSTATE 22P02)"),
        ("HSET account:1 colour red", "its writes have no field 'colour'"),
        ("HSET account:77 age 3", "the write found no row"),
        ("HSET account:x age 3", "the key cannot name a row"),
        ("HSET account:007 age 3", "the key cannot name a row"),
        ("SET later:1 77", "a constraint of the database refuses the write, later_other_fkey (SQLSTATE 23503)"),
        ("HINCRBY account:1 age 1", "HINCRBY cannot be written to the database"),
        ("HDEL account:1 age", "HDEL cannot be written to the database"),
        ("APPEND name:1 x", "APPEND cannot be written to the database"),
        ("GETDEL name:1", "GETDEL cannot be written to the database"),
        ("MSET plain x name:1 y", "MSET cannot be written to the database"),
        ("RENAME name:1 plain", "RENAME cannot be written to the database"),
        ("DEL photo:1", "it has no statement 'del'"),
        ("SET account:1 x", "it has no statement 'set'"),
        ("SET fixed:1 x", "its keys are not to be written"),
        ("DEL fixed:1", "its keys are not to be written"),
        ("LPUSH fixed:1 x", "its keys are not to be written"),
        ("BITFIELD fixed:1 SET u8 0 1", "its keys are not to be written"),
    ] {
        let reply = error(run(&mut client, line));
        assert!(reply.starts_with("ERR route '") && reply.ends_with(&format!("': {text}")), "{line}: {reply}");
    }
    for (line, text) in [
        ("SET name:1 x NX", "ERR SET with a condition or GET cannot be written to the database"),
        ("SET name:1 x GET", "ERR SET with a condition or GET cannot be written to the database"),
        ("SET name:1 x EX 0", "ERR invalid expire time in 'set' command"),
        ("SET name:1 x EX", "ERR syntax error"),
        ("SETEX name:1 0 x", "ERR invalid expire time in 'setex' command"),
        ("HSET account:1 age", "ERR wrong number of arguments for 'hset' command"),
        ("HSET account:1 age 1 name", "ERR wrong number of arguments for 'hset' command"),
    ] {
        assert_eq!(error(run(&mut client, line)), text, "{line}");
    }
    assert_eq!(row(&rig, "name, age, changes", 1), "ann|30|0");
    // A part of what is written together is not written.
    assert!(run(&mut client, "HSET options:x a 1 b 2").int() == 2);
    rig.postgres.sql("ALTER TABLE options ADD CHECK (value <> '9')");
    assert!(error(run(&mut client, "HSET options:x a 8 b 9")).contains("options_value_check"));
    assert_eq!(rig.postgres.sql("SELECT string_agg(field || value, ',' ORDER BY field) FROM options"), "a1,b2");
    // Reads and TTLs are the cache's.
    assert_eq!(run(&mut client, "GET fixed:1"), Value::bulk("ann"));
    assert_eq!(run(&mut client, "BITFIELD fixed:1 GET u8 0"), Value::Array(vec![Value::Int(i64::from(b'a'))]));
    assert_eq!(run(&mut client, "EXPIRE fixed:1 100"), Value::Int(1));
    assert_eq!(run(&mut client, "GETEX name:1 EX 100"), Value::bulk("ann"));
    assert_eq!(run(&mut client, "COPY name:1 plain"), Value::Int(1));
    assert_eq!(run(&mut client, "ROUTE REFRESH name:1"), Value::Int(1));
    assert_eq!(run(&mut client, "FLUSHALL"), Value::ok());
    // The connections are as good as new.
    assert_eq!(run(&mut client, "HSET account:1 age 33"), Value::Int(0));
    assert_eq!(rig.postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"), "0");
}

#[test]
fn dependent_keys_go_with_a_write() {
    let rig = start();
    let mut client = rig.client();
    let writes: &[&str] =
        &["HSET account:1 age 40", "SET own:1 mine", "DEL own:1", "EVAL return~redis.call('set',KEYS[1],'x') 1 own:1"];
    for write in writes {
        run(&mut client, "MSET page:1 x page:2 x pages x other x");
        let write: Vec<String> = words(write).into_iter().map(|word| word.replace('~', " ")).collect();
        let reply = client.cmd(&write.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!reply.is_error(), "{write:?}: {reply:?}");
        let left = ["page:1", "page:2", "pages", "other"].map(|key| run(&mut client, &format!("EXISTS {key}")).int());
        assert_eq!(left, [0, 1, 0, 1], "{write:?}");
    }
    // In a transaction too, at its place.
    run(&mut client, "MSET page:1 x page:2 x pages x");
    let reply = exec(&mut client, &["SET pages y", "SET own:2 z", "EXISTS pages page:1 page:2", "SET pages w"]);
    assert_eq!(reply.items()[2], Value::Int(1));
    assert_eq!(run(&mut client, "GET pages"), Value::bulk("w"));
    // What fails or changes nothing but a TTL invalidates nothing.
    run(&mut client, "MSET page:1 x pages x");
    assert!(run(&mut client, "LPUSH own:1 x").is_error());
    assert!(run(&mut client, "HSET account:1 age -1").is_error());
    run(&mut client, "EXPIRE own:1 100");
    assert_eq!(run(&mut client, "EXISTS pages"), Value::Int(1));
}

#[test]
fn transactions_and_scripts_do_not_write_to_the_database() {
    let rig = start();
    let mut client = rig.client();
    run(&mut client, "MULTI");
    let refusal = error(run(&mut client, "SET name:1 x"));
    assert_eq!(refusal, "ERR route 'name:{id}': a write to the database cannot be part of a transaction");
    assert!(error(run(&mut client, "EXEC")).starts_with("EXECABORT"));
    run(&mut client, "MULTI");
    assert!(error(run(&mut client, "SET fixed:1 x")).contains("not to be written"));
    assert!(error(run(&mut client, "EXEC")).starts_with("EXECABORT"));
    // Queued for another database, in which no route says anything.
    run(&mut client, "SELECT 1");
    let reply = exec(&mut client, &["SET name:1 x", "SELECT 0", "SET name:1 x", "GET name:1"]);
    assert!(matches!(&reply.items()[2], Value::Error(text) if text.contains("part of a transaction")), "{reply:?}");
    assert_eq!(reply.items()[3], Value::bulk("ann"));
    let script = "return redis.call('set', KEYS[1], 'x')";
    let refusal = error(client.cmd(&["EVAL", script, "1", "name:1"]));
    assert!(refusal.contains("a write to the database cannot be part of a script"), "{refusal}");
    assert_eq!(row(&rig, "name", 1), "ann");
}

/// Kept, the row from before the write would be stale for its ttl.
#[test]
fn a_load_that_began_before_a_write_is_not_kept() {
    let slow = "[[route]]\nkey = 'slow:{id}'\nquery = 'SELECT name FROM accounts, gate WHERE id = {id}'\nas = 'string'\n\
                ttl = '1h'\nwrites = 'through'\n[route.write]\nset = 'UPDATE accounts SET name = {value} WHERE id = {id}'\n";
    let rig = Rig::with("", slow, &["--workers", "2"]);
    rig.postgres.sql(TABLES);
    let (mut reader, mut writer) = (rig.client(), rig.client());
    let gate = rig.shut_gate();
    reader.send(&["GET", "slow:1"]).expect("sent");
    rig.wait_for_waiting(1);
    assert_eq!(run(&mut writer, "SET slow:1 zoe"), Value::ok());
    gate.open();
    assert!(!reader.read_reply().expect("a reply").value.is_error());
    assert_eq!(run(&mut writer, "GET slow:1"), Value::bulk("zoe"));
    assert_eq!(run(&mut reader, "GET slow:1"), Value::bulk("zoe"));
}

/// The client must not believe that nothing happened, nor that all is well; and the old copy must not stay.
#[test]
fn an_unknown_outcome_drops_the_key_and_says_so() {
    let rig = start();
    let mut client = rig.client();
    rig.postgres.sql("ALTER SYSTEM SET synchronous_standby_names = 'absent'");
    rig.postgres.sql("SELECT pg_reload_conf()");
    until("the setting", || rig.postgres.sql("SHOW synchronous_standby_names") == "absent");
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("ann"));
    // COMMIT waits for the standby; then its session is ended.
    client.send(&["SET", "name:1", "zoe"]).expect("sent");
    let waits = "FROM pg_stat_activity WHERE application_name = 'cenote' AND wait_event = 'SyncRep'";
    until("the commit", || rig.postgres.sql(&format!("SELECT count(*) {waits}")) == "1");
    rig.postgres.sql(&format!("SELECT pg_terminate_backend(pid) {waits}"));
    let reply = client.read_reply().expect("a reply").value;
    // Postgres warns that it may be there, and acknowledges or closes.
    if reply != Value::ok() {
        let text = error(reply);
        assert_eq!(
            text,
            "ERR route 'name:{id}': it is unknown whether the write was done: the database did not answer"
        );
    }
    assert_eq!(run(&mut client, "EXISTS name:1"), Value::Int(0), "the old copy is gone");
    rig.postgres.sql("ALTER SYSTEM RESET synchronous_standby_names");
    rig.postgres.sql("SELECT pg_reload_conf()");
    until("the truth", || run(&mut client, "GET name:1") == Value::bulk("zoe"));
}

#[test]
fn a_database_that_was_restarted_is_written_and_one_that_is_down_is_not() {
    let mut rig = start();
    let mut client = rig.client();
    assert_eq!(run(&mut client, "SET name:1 a"), Value::ok());
    rig.postgres.restart();
    // The pool's connection is dead, which shows before anything is written.
    until("the database to be back", || run(&mut client, "SET name:1 b") == Value::ok());
    assert_eq!(row(&rig, "name", 1), "b");
    rig.postgres.stop();
    let reply = error(run(&mut client, "SET name:1 c"));
    assert!(reply.starts_with("TRYAGAIN route 'name:{id}': the database is down"), "{reply}");
    rig.postgres.restart();
    assert_eq!(row(&rig, "name", 1), "b");
}

/// Two writers at once: whatever order the database gives them, the cache must agree with it.
#[test]
fn writers_at_once_leave_what_the_database_has() {
    let rig = start();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let rig = &rig;
            scope.spawn(move || {
                let mut client = rig.client();
                for round in 0..50 {
                    let id = 10 + round % 3;
                    assert_eq!(run(&mut client, &format!("SET name:{id} w{writer}-{round}-{id}")), Value::ok());
                    assert!(!run(&mut client, &format!("GET name:{id}")).is_error());
                }
            });
        }
    });
    let mut client = rig.client();
    for id in 10..13 {
        assert_eq!(run(&mut client, &format!("GET name:{id}")), Value::bulk(row(&rig, "name", id)), "{id}");
    }
}

#[test]
fn routes_that_write_are_shown_and_added() {
    let rig = start();
    let mut client = rig.client();
    run(&mut client, "SET name:1 x");
    let stats = format!("{:?}", run(&mut client, "ROUTE STATS name:{id}"));
    assert!(stats.contains("\"writes\", 1"), "{stats}");
    let get = format!("{:?}", run(&mut client, "ROUTE GET name:{id}"));
    assert!(get.contains("through") && get.contains("INSERT INTO accounts"), "{get}");
    let write = "{ set = \"UPDATE accounts SET note = {value} WHERE id = {id}\" }";
    let query = "SELECT note FROM accounts WHERE id = {id}";
    let add = [
        "ROUTE",
        "ADD",
        "note",
        "key",
        "note:{id}",
        "query",
        query,
        "as",
        "string",
        "ttl",
        "1h",
        "writes",
        "through",
        "write",
        write,
    ];
    assert_eq!(client.cmd(&add), Value::ok());
    assert_eq!(run(&mut client, "SET note:1 hello"), Value::ok());
    assert_eq!(row(&rig, "note", 1), "hello");
    assert_eq!(run(&mut client, "ROUTE DEL note"), Value::ok());
    assert_eq!(run(&mut client, "SET note:1 local"), Value::ok());
    assert_eq!(row(&rig, "note", 1), "hello");
}
