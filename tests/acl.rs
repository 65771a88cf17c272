//! Users where several connections, files or the log meet: what a change of a user does to those who are connected, and
//! what of it is kept.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Server, TempDir, Value};

fn ok(client: &mut Client, command: &str) {
    assert_eq!(ask(client, command), Value::ok(), "{command}");
}

fn ask(client: &mut Client, command: &str) -> Value {
    client.cmd(&command.split(' ').collect::<Vec<_>>())
}

fn text(client: &mut Client, command: &str) -> String {
    ask(client, command).text().unwrap_or_default()
}

/// A connection of a user without a password.
fn client_of(server: &Server, user: &str) -> Client {
    let mut client = server.client();
    ok(&mut client, &format!("AUTH {user} x"));
    client
}

fn closes(client: &mut Client) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if client.try_cmd(&["PING"]).is_err() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn who_may_not_listen_any_more_is_disconnected_and_others_are_not() {
    let server = Server::cenote().start();
    let mut admin = server.client();
    for user in ["a", "b"] {
        ok(&mut admin, &format!("ACL SETUSER {user} on nopass allkeys +@all &news.* &other &p*"));
    }
    let mut all: Vec<Client> = Vec::new();
    for (user, command) in [
        ("a", "SUBSCRIBE news.1"),
        ("a", "PSUBSCRIBE news.*"),
        ("a", "SSUBSCRIBE news.2"),
        ("a", "SUBSCRIBE other"),
        ("a", "PSUBSCRIBE p*"),
        ("b", "SUBSCRIBE news.1"),
    ] {
        let mut client = client_of(&server, user);
        assert!(!ask(&mut client, command).is_error(), "{command}");
        all.push(client);
    }
    // A pattern must be allowed as it is, even if all that it matches is.
    let mut client = client_of(&server, "a");
    assert!(text(&mut client, "PSUBSCRIBE news.1*").starts_with("NOPERM No permissions to access a channel"));
    // More is no reason to close anybody.
    ok(&mut admin, "ACL SETUSER a &more");
    all.iter_mut().for_each(|client| assert!(client.try_cmd(&["PING"]).is_ok()));
    ok(&mut admin, "ACL SETUSER a resetchannels &oth* &p*");
    let closed: Vec<bool> = all[..3].iter_mut().map(closes).collect();
    assert_eq!(closed, [true, true, true]);
    all[3..].iter_mut().for_each(|client| assert!(client.try_cmd(&["PING"]).is_ok()));
    ok(&mut client, "SET k v");
}

#[test]
fn a_user_that_is_removed_is_disconnected_even_if_another_gets_its_name() {
    let server = Server::cenote().start();
    let mut admin = server.client();
    ok(&mut admin, "ACL SETUSER u on nopass allkeys +@all");
    let mut client = client_of(&server, "u");
    let batch: Vec<Vec<Vec<u8>>> = ["ACL DELUSER u", "ACL SETUSER u on nopass allkeys +@all"]
        .iter()
        .map(|command| command.split(' ').map(Vec::from).collect())
        .collect();
    admin.pipeline(&batch).expect("both are answered");
    assert!(closes(&mut client));
    // Whoever removes itself is answered first.
    let mut client = client_of(&server, "u");
    assert_eq!(ask(&mut client, "ACL DELUSER u"), Value::Int(1));
    assert!(closes(&mut client));
}

/// Commands of one pipeline run in groups, whose guards are asked once: a change amid them must be seen by the next.
#[test]
fn a_change_amid_a_pipeline_holds_from_the_next_command_on() {
    let server = Server::cenote().start();
    let mut admin = server.client();
    ok(&mut admin, "ACL SETUSER u on nopass allkeys +@all");
    let mut client = client_of(&server, "u");
    let batch: Vec<Vec<Vec<u8>>> =
        ["SET a 1", "GET a", "ACL SETUSER u -get", "SET a 2", "GET a", "STRLEN a", "ACL SETUSER u +get", "GET a"]
            .iter()
            .map(|command| command.split(' ').map(Vec::from).collect())
            .collect();
    let replies: Vec<Value> = client.pipeline(&batch).expect("replies").into_iter().map(|reply| reply.value).collect();
    assert!(replies[4].text().unwrap_or_default().starts_with("NOPERM User u has no permissions to run the 'get'"));
    assert_eq!(
        (&replies[1], &replies[3], &replies[5], &replies[7]),
        (&Value::bulk("1"), &Value::ok(), &Value::Int(1), &Value::bulk("2"))
    );
    // And for connections of other workers.
    let mut others: Vec<Client> = (0..4).map(|_| client_of(&server, "u")).collect();
    ok(&mut admin, "ACL SETUSER u -get");
    others.iter_mut().for_each(|client| assert!(ask(client, "GET a").is_error()));
}

/// A route says what is asked of the database, so whoever may not administer may not look at one, nor change it.
#[test]
fn routes_are_for_administrators() {
    let server = Server::cenote().start();
    let mut admin = server.client();
    ok(&mut admin, "ACL SETUSER worker reset on nopass ~* &* +@all -@admin");
    let mut worker = client_of(&server, "worker");
    for command in
        ["ROUTE LIST", "ROUTE STATS", "ROUTE RELOAD", "ROUTE WHY k", "ROUTE GET r", "ROUTE DEL r", "ROUTE DISABLE r"]
    {
        assert!(text(&mut worker, command).starts_with("NOPERM "), "{command}");
    }
    let of_admin = ask(&mut admin, "ACL CAT admin");
    let routes = of_admin.items().iter().filter_map(Value::text).filter(|name| name.starts_with("route|")).count();
    let all = ask(&mut admin, "COMMAND LIST FILTERBY PATTERN route|*").items().len();
    // HELP is everybody's.
    assert_eq!((routes, all > 5), (all - 1, true));
}

#[test]
fn without_the_default_user_nothing_is_open() {
    let server = Server::cenote().start();
    let mut admin = server.client();
    ok(&mut admin, "ACL SETUSER admin on >pw allkeys allchannels +@all");
    ok(&mut admin, "AUTH admin pw");
    ok(&mut admin, "ACL SETUSER default off");
    let mut client = server.client();
    assert_eq!(text(&mut client, "GET k"), "NOAUTH Authentication required.");
    assert!(text(&mut client, "AUTH default x").starts_with("WRONGPASS"));
    assert_eq!(ask(&mut client, "AUTH admin pw"), Value::ok());
    // RESET makes it the default user again, who is off.
    assert_eq!(ask(&mut client, "RESET"), Value::simple("RESET"));
    assert_eq!(text(&mut client, "GET k"), "NOAUTH Authentication required.");
}

#[test]
fn refusals_are_counted_and_passwords_are_in_no_log() {
    let server = Server::cenote().args(["--slowlog-log-slower-than", "0"]).start();
    let mut admin = server.client();
    let mut monitor = server.client();
    ok(&mut monitor, "MONITOR");
    ok(&mut admin, "ACL SETUSER u on >hush-hush ~mine:* +@all -ping");
    let mut client = server.client();
    ask(&mut client, "AUTH u hush-wrong");
    ok(&mut client, "AUTH u hush-hush");
    for command in ["PING", "GET theirs", "PUBLISH c m"] {
        assert!(ask(&mut client, command).is_error());
    }
    let stats = text(&mut admin, "INFO stats");
    for line in [
        "acl_access_denied_auth:1",
        "acl_access_denied_cmd:1",
        "acl_access_denied_key:1",
        "acl_access_denied_channel:1",
    ] {
        assert!(stats.contains(line), "{line}: {stats}");
    }
    let log = format!("{:?}", ask(&mut admin, "ACL LOG"));
    assert!(log.contains("user=u") && !log.contains("hush-"), "{log}");
    let slowlog = format!("{:?}", ask(&mut admin, "SLOWLOG GET 100"));
    assert!(slowlog.contains("(redacted)") && !slowlog.contains("hush-"), "{slowlog}");
    ok(&mut admin, "CONFIG RESETSTAT");
    assert!(text(&mut admin, "INFO stats").contains("acl_access_denied_auth:0"));
    ask(&mut client, "GET mine:end");
    let mut seen = String::new();
    while !seen.contains("mine:end") {
        seen += &format!("{:?}", monitor.read_reply().expect("the monitor is told"));
    }
    assert!(!seen.contains("hush-"), "{seen}");
    assert!(!server.log().contains("hush-"));
}

#[test]
fn an_acl_file_is_read_at_start_and_by_load_and_written_by_save() {
    let dir = TempDir::new("acl");
    let file = dir.path().join("users.acl");
    let path = file.to_str().expect("UTF-8");
    fs::write(&file, "# all of them\nuser default on nopass ~* &* +@all\nuser a on >pw ~a:* +get\nuser b on nopass +ping (~x +get)\n")
        .expect("written");
    let server = Server::cenote().args(["--aclfile", path]).start();
    let mut admin = server.client();
    let mut a = server.client();
    ok(&mut a, "AUTH a pw");
    let mut b = client_of(&server, "b");
    // The password itself is not in what is written.
    ok(&mut admin, "ACL SETUSER c on >hush ~* +@all");
    ok(&mut admin, "ACL SAVE");
    let saved = fs::read_to_string(&file).expect("read");
    assert_eq!(saved.lines().count(), 4, "{saved}");
    assert!(
        saved.contains("user b on nopass resetchannels -@all +ping (~x resetchannels -@all +get)")
            && !saved.contains("hush")
    );
    // A file with faults changes nothing, and all of them are told.
    fs::write(&file, "user a on +nosuch\nusr b\n").expect("written");
    let told = text(&mut admin, "ACL LOAD");
    assert!(told.contains(":1: ") && told.contains(":2: ") && told.contains("WARNING"), "{told}");
    assert_eq!(text(&mut a, "GET a:1"), "");
    // Who is gone or changed is disconnected; who is as before is not.
    fs::write(&file, saved.replace("~a:*", "~b:*")).expect("written");
    ok(&mut admin, "ACL LOAD");
    assert!(closes(&mut a));
    assert_eq!(ask(&mut b, "PING"), Value::simple("PONG"));
}

#[test]
fn users_of_redis_conf_are_read_and_rewritten() {
    let server =
        Server::cenote().config("user a on >pw ~a:* +get\nuser default on nopass ~* &* +@all -debug\n").start();
    let mut admin = server.client();
    let mut a = server.client();
    ok(&mut a, "AUTH a pw");
    assert!(text(&mut a, "GET b").starts_with("NOPERM"));
    assert!(
        text(&mut admin, "DEBUG JMAP").contains("NOPERM") || text(&mut admin, "DEBUG JMAP").contains("not allowed")
    );
    ok(&mut admin, "ACL SETUSER b on nopass +ping");
    ok(&mut admin, "CONFIG REWRITE");
    let config = fs::read_to_string(server.dir().join("server.conf")).expect("read");
    for line in [
        "user a on #30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4 ~a:* resetchannels -@all +get",
        "user b on nopass resetchannels -@all +ping",
        "user default on nopass ~* &* +@all -debug",
    ] {
        assert!(config.lines().any(|other| other == line), "{line}: {config}");
    }
    assert_eq!(config.matches("user ").count(), 3, "{config}");
}

#[test]
fn users_in_both_places_or_with_faults_stop_the_start() {
    let dir = TempDir::new("acl-both");
    let file = dir.path().join("users.acl");
    fs::write(&file, "user a on +nosuch\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    for (config, told) in [
        (format!("aclfile {path}\nuser b on\n"), "only one of them"),
        (format!("aclfile {path}\n"), "Unknown command or category name in ACL"),
        ("aclfile /nonexistent/users.acl\n".to_owned(), "No such file"),
        ("user b on +nosuch\n".to_owned(), "Unknown command or category name in ACL"),
        ("user b on\nuser b off\n".to_owned(), "twice"),
    ] {
        let (status, log) = Server::cenote().config(&config).start_and_fail();
        assert!(!status.success() && log.contains(told), "{config}: {log}");
    }
}
