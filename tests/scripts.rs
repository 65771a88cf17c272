//! Scripts that run on and on, beside everybody else; and libraries that move between servers.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Oracle, PATIENCE, Server, Value};

const BUSY: &str = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const FOREVER: &str = "while true do end";
/// A script that ends by itself, after much longer than the threshold.
const LONG: &str = "local t=os.clock() while os.clock()-t<1.5 do end";

/// A server of so many workers that calls a script busy after a fifth of a second.
fn server(workers: usize) -> Server {
    Server::cenote().args(["--workers".to_owned(), workers.to_string()]).args(["--busy-reply-threshold", "200"]).start()
}

/// Repeats a command until it is answered as wanted.
#[track_caller]
fn until(client: &mut Client, command: &[&str], wanted: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = client.cmd(command);
        if wanted(&reply) {
            return;
        }
        assert!(Instant::now() < deadline, "{command:?}: still {reply:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_busy(reply: &Value) -> bool {
    *reply == Value::Error(BUSY.to_owned())
}

#[test]
fn a_script_that_does_not_end_is_killed_from_any_connection() {
    // It used to hold all shards: connections of its own worker, and all that touched a key, waited for ever.
    for workers in [1, 3] {
        let server = server(workers);
        let (mut runner, mut others) = (server.client(), [(); 6].map(|()| server.client()));
        runner.send(&["EVAL", FOREVER, "0"]).unwrap();
        for other in &mut others {
            until(other, &["GET", "k"], is_busy);
            assert!(is_busy(&other.cmd(&["PING"])) && is_busy(&other.cmd(&["EVAL", "return 1", "0"])));
            assert!(is_busy(&other.cmd(&["SHUTDOWN"])));
        }
        assert_eq!(others[0].cmd(&["MULTI"]), Value::ok());
        assert!(is_busy(&others[0].cmd(&["GET", "k"])));
        assert!(others[0].cmd(&["DISCARD"]) == Value::ok());
        assert!(is_busy(&others[1].cmd(&["FUNCTION", "KILL"])), "it is no function");
        assert_eq!(others[2].cmd(&["SCRIPT", "KILL"]), Value::ok());
        let reply = runner.read_reply().unwrap().value;
        let text = reply.text().unwrap_or_default();
        assert!(text.starts_with("ERR Script killed by user with SCRIPT KILL. script: "), "{reply:?}");
        others.iter_mut().for_each(|other| assert_eq!(other.cmd(&["SET", "k", "v"]), Value::ok()));
        assert_eq!(runner.cmd(&["EVAL", "return redis.call('get','k')", "0"]), Value::bulk("v"));
    }
}

/// Who met the script was told to wait for a pause that was another one, and asked again without letting its worker serve
/// anybody else: so the script of that worker never went on, and with `busy-reply-threshold` 0 nothing ended it.
#[test]
fn a_script_goes_on_while_writes_are_paused() {
    let server = Server::cenote().args(["--workers", "1", "--busy-reply-threshold", "0"]).start();
    let (mut runner, mut other) = (server.client(), server.client());
    assert_eq!(other.cmd(&["CLIENT", "PAUSE", "60000", "WRITE"]), Value::ok());
    runner.send(&["EVAL_RO", "for i = 1, 1e7 do end return 1", "0"]).unwrap();
    assert_eq!(other.cmd(&["GET", "k"]), Value::Nil);
    assert_eq!(runner.read_reply().unwrap().value, Value::Int(1));
}

#[test]
fn an_error_that_ends_a_script_is_not_caught() {
    let server = server(1);
    let (mut runner, mut other) = (server.client(), server.client());
    let stubborn = "while true do pcall(function() while true do end end) end";
    runner.send(&["EVAL", stubborn, "0"]).unwrap();
    until(&mut other, &["SCRIPT", "KILL"], |reply| *reply == Value::ok());
    assert!(runner.read_reply().unwrap().value.is_error());
}

#[test]
fn a_script_that_has_written_is_not_killed_and_ends_in_its_own_time() {
    let server = server(2);
    let (mut runner, mut other, mut waiter) = (server.client(), server.client(), server.client());
    waiter.send(&["BLPOP", "list", "0"]).unwrap();
    until(&mut other, &["INFO", "clients"], |reply| {
        reply.text().is_some_and(|text| text.contains("blocked_clients:1"))
    });
    let script = format!("redis.call('rpush','list','a','b') {LONG} return redis.call('llen','list')");
    runner.send(&["EVAL", &script, "0"]).unwrap();
    until(&mut other, &["SCRIPT", "KILL"], |reply| {
        reply.text().is_some_and(|text| text.starts_with("UNKILLABLE Sorry the script already executed write commands"))
    });
    assert_eq!(runner.read_reply().unwrap().value, Value::Int(2));
    assert_eq!(waiter.read_reply().unwrap().value.items()[1], Value::bulk("a"), "served when the script is over");
    assert_eq!(other.cmd(&["LRANGE", "list", "0", "-1"]), Value::Array(vec![Value::bulk("b")]));
}

#[test]
fn a_script_goes_on_when_its_client_is_gone() {
    let server = server(2);
    let (mut runner, mut other) = (server.client(), server.client());
    runner.send(&["EVAL", &format!("{LONG} redis.call('set','done','1')"), "0"]).unwrap();
    until(&mut other, &["GET", "k"], is_busy);
    drop(runner);
    until(&mut other, &["GET", "done"], |reply| *reply == Value::bulk("1"));
}

#[test]
fn a_function_is_shown_and_killed_by_its_own_command() {
    let server = server(1);
    let (mut runner, mut other) = (server.client(), server.client());
    let library = format!("#!lua name=l\nredis.register_function('loop',function() {FOREVER} end)");
    assert_eq!(runner.cmd(&["FUNCTION", "LOAD", &library]), Value::bulk("l"));
    runner.send(&["FCALL", "loop", "0"]).unwrap();
    let busy = BUSY.replace("SCRIPT KILL", "FUNCTION KILL");
    until(&mut other, &["GET", "k"], |reply| *reply == Value::Error(busy.clone()));
    assert_eq!(other.cmd(&["SCRIPT", "KILL"]), Value::Error(busy));
    let stats = other.cmd(&["FUNCTION", "STATS"]);
    let running = stats.items()[1].clone();
    assert_eq!((running.items()[1].clone(), running.items()[3].items().len()), (Value::bulk("loop"), 3), "{stats:?}");
    assert_eq!(other.cmd(&["FUNCTION", "KILL"]), Value::ok());
    let reply = runner.read_reply().unwrap().value;
    assert_eq!(
        reply,
        Value::Error("ERR Script killed by user with FUNCTION KILL. script: loop, on @user_function:2.".to_owned())
    );
}

#[test]
fn a_script_in_a_transaction_ends_at_the_threshold() {
    let server = server(1);
    let mut client = server.client();
    client.cmd(&["MULTI"]);
    client.cmd(&["EVAL", FOREVER, "0"]);
    client.cmd(&["SET", "k", "v"]);
    let replies = client.cmd(&["EXEC"]);
    assert!(replies.items()[0].text().is_some_and(|text| text.contains("busy-reply-threshold")), "{replies:?}");
    assert_eq!(replies.items()[1], Value::ok());
}

#[test]
fn shutdown_nosave_ends_a_script() {
    let mut server = server(2);
    let (mut runner, mut other) = (server.client(), server.client());
    runner.send(&["EVAL", FOREVER, "0"]).unwrap();
    until(&mut other, &["GET", "k"], is_busy);
    other.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    assert!(server.wait_for_exit().success());
}

#[test]
fn scripts_bound_their_memory_and_their_recursion() {
    // Each of these has ended a server of some kind: by its stack, or by taking all memory.
    let server = server(1);
    let mut client = server.client();
    // Filling the memory takes its time on a loaded machine.
    client.set_patience(PATIENCE * 10);
    for script in [
        "local s,t=string.rep('x',1000000),{} while true do t[#t+1]=s..#t end",
        "return string.rep('x',1e10)",
        "return string.find(string.rep('a',300000),string.rep('a?',300000)..'b')",
        "local function f() return f()+1 end return f()",
        "local function f(s) return s:gsub('.',f) end return f('x')",
        "local t={} for i=1,1000000 do t={t} end return cjson.encode(t)",
        "return cjson.decode(string.rep('[',1000000))",
        "return {cmsgpack.unpack(string.rep('\\145',1000000))}",
        "return {cmsgpack.unpack(string.rep('\\1',1000000))}",
        "return {struct.unpack(string.rep('b',1000000),string.rep('x',1000000))}",
        "return loadstring(string.rep('(',100000))",
        "return loadstring('return '..string.rep('{',100000))",
        "return table.concat({},'x',1,1e9)",
        "local t=setmetatable({},{}) getmetatable(t).__index=t return t.x",
        "return coroutine.wrap(function() return coroutine.wrap(function() error('deep') end)() end)()",
        "return xpcall(function() error('a') end,function(e) error('b') end)",
        "return string.format('%99999d',1)",
        "return unpack({},1,1e9)",
    ] {
        let reply = client.try_cmd(&["EVAL", script, "0"]);
        assert!(reply.is_ok(), "{script}: {reply:?}");
        assert_eq!(client.cmd(&["EVAL", "return 1", "0"]), Value::Int(1), "after {script}");
    }
    let nested = client.cmd(&["EVAL", "local t={} for i=1,1000000 do t={t} end return #t", "0"]);
    assert_eq!(nested, Value::Int(1));
}

#[test]
fn a_script_is_atomic_for_those_who_read_beside_it() {
    let server = server(3);
    let script = "local n=redis.call('incr','a') redis.call('set','b'..'x',n) return n";
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = server.client();
                for _ in 0..2_000 {
                    client.cmd(&["EVAL", script, "1", "a"]);
                }
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = server.client();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let pair = client.cmd(&["MGET", "a", "bx"]);
                    assert_eq!(pair.items()[0], pair.items()[1], "half of a script was seen");
                }
            });
        }
    });
    assert_eq!(server.client().cmd(&["GET", "a"]), Value::bulk("4000"));
}

#[test]
fn libraries_move_between_servers_and_back() {
    let code = |name: &str| {
        let filler = "-- a line that compresses well, again and again\n".repeat(20);
        format!("#!lua name={name}\n{filler}redis.register_function('{name}',function() return '{name}' end)")
    };
    let moved = |from: &mut Client, to: &mut Client, what: &str| {
        from.cmd(&["FUNCTION", "FLUSH"]);
        to.cmd(&["FUNCTION", "FLUSH"]);
        for name in ["one", "two"] {
            assert_eq!(from.cmd(&["FUNCTION", "LOAD", &code(name)]), Value::bulk(name), "{what}");
        }
        let Value::Bulk(payload) = from.cmd(&["FUNCTION", "DUMP"]) else { panic!("{what}: bytes") };
        let restore =
            |policy: &'static str| [b"FUNCTION".to_vec(), b"RESTORE".to_vec(), payload.clone(), policy.into()];
        assert_eq!(to.cmd(&restore("APPEND")), Value::ok(), "{what}");
        assert_eq!(to.cmd(&["FCALL", "two", "0"]), Value::bulk("two"), "{what}");
        let exists = to.cmd(&restore("APPEND"));
        assert!(exists.text().is_some_and(|text| text.contains("already exists")), "{what}: {exists:?}");
        assert_eq!(to.cmd(&restore("REPLACE")), Value::ok(), "{what}");
        assert_eq!(to.cmd(&restore("FLUSH")), Value::ok(), "{what}");
        assert_eq!(to.cmd(&["FUNCTION", "LIST"]).items().len(), 2, "{what}");
    };
    let tested = server(1);
    for oracle in Oracle::ALL {
        let other = Server::oracle(oracle).start();
        moved(&mut other.client(), &mut tested.client(), &format!("from {}", oracle.name()));
        moved(&mut tested.client(), &mut other.client(), &format!("to {}", oracle.name()));
    }
}
