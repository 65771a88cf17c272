//! `redis.*`, which is also `server.*`: commands, errors, the log, and for libraries the registration of functions.
//! Commands are the [`super::Host`]'s.

use super::bridge::{self, Bridge};
use super::library::FunctionInfo;
use super::sandbox::{self, Fault, Faulty, as_number};
use super::source::{Flags, sha1_hex};
use crate::protocol::Version;
use crate::version;
use mlua::{Function, Lua, MultiValue, Result, Table, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// What a library that is being loaded has registered.
pub(super) type Registered = Rc<RefCell<Vec<(FunctionInfo, Function)>>>;

fn line<T>(text: &str) -> Result<Faulty<T>> {
    Ok(Err(Fault::Line(text.to_owned())))
}

/// What scripts and functions see.
pub(super) fn table(lua: &Lua, bridge: &Rc<Bridge>) -> Result<Table> {
    let redis = lua.create_table()?;
    redis.raw_set("call", bridge::caller(lua, bridge, true)?)?;
    redis.raw_set("pcall", bridge::caller(lua, bridge, false)?)?;
    add_log(lua, &redis, bridge)?;
    let asked = Rc::clone(bridge);
    redis.raw_set("acl_check_cmd", sandbox::function(lua, move |lua, args| may(lua, &args, &asked))?)?;
    redis.raw_set("error_reply", sandbox::function(lua, |lua, args| one_field(lua, &args, "err"))?)?;
    redis.raw_set("status_reply", sandbox::function(lua, |lua, args| one_field(lua, &args, "ok"))?)?;
    redis.raw_set("sha1hex", sandbox::function(lua, sha1hex)?)?;
    let asked = Rc::clone(bridge);
    let setresp = sandbox::function(lua, move |lua, args| {
        if args.len() != 1 {
            return line("ERR redis.setresp() requires one argument.");
        }
        asked.io().version = match lua.coerce_number(args[0].clone())?.map(|number| number as i64) {
            Some(2) => Version::V2,
            Some(3) => Version::V3,
            _ => return line("ERR RESP version must be 2 or 3."),
        };
        Ok(Ok(Value::Nil))
    })?;
    redis.raw_set("setresp", setresp)?;
    let set_repl = sandbox::function(lua, |lua, args| {
        if args.len() != 1 {
            return line("ERR redis.set_repl() requires one argument.");
        }
        match lua.coerce_number(args[0].clone())?.unwrap_or(0.0) as i64 {
            0..=3 => Ok(Ok(Value::Nil)),
            _ => line("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE."),
        }
    })?;
    redis.raw_set("set_repl", set_repl)?;
    for (name, number) in [("NONE", 0), ("AOF", 1), ("SLAVE", 2), ("REPLICA", 2), ("ALL", 3)] {
        redis.raw_set(format!("REPL_{name}"), number)?;
    }
    add_version(&redis)?;
    Ok(redis)
}

/// What only scripts see.
pub(super) fn add_script_only(lua: &Lua, redis: &Table) -> Result<()> {
    redis.raw_set("replicate_commands", sandbox::function(lua, |_, _| Ok(Ok(Value::Boolean(true))))?)?;
    // There is no debugger.
    redis.raw_set("breakpoint", sandbox::function(lua, |_, _| Ok(Ok(Value::Boolean(false))))?)?;
    redis.raw_set("debug", sandbox::function(lua, |_, _| Ok(Ok(Value::Nil)))?)
}

/// What a library sees while it is loaded.
pub(super) fn load_table(lua: &Lua, bridge: &Rc<Bridge>, registered: &Registered) -> Result<Table> {
    let redis = lua.create_table()?;
    add_log(lua, &redis, bridge)?;
    add_version(&redis)?;
    let registered = Rc::clone(registered);
    let register = sandbox::function(lua, move |lua, args| {
        let (info, callback) = match registration(lua, &args)? {
            Ok(registration) => registration,
            Err(fault) => return Ok(Err(fault)),
        };
        if !super::library::is_name(&info.name) {
            let rule = "can only contain letters, numbers, or underscores(_) and must be at least one character long";
            return line(&format!("ERR Library names {rule}"));
        }
        let mut all = registered.borrow_mut();
        if all.iter().any(|(other, _)| other.name == info.name) {
            return line("ERR Function already exists in the library");
        }
        all.push((info, callback));
        Ok(Ok(Value::Nil))
    })?;
    redis.raw_set("register_function", register)?;
    let meta = lua.create_table()?;
    meta.raw_set("__index", sandbox::unknown_global(lua)?)?;
    redis.set_metatable(Some(meta))?;
    Ok(redis)
}

/// Reads the arguments of `register_function`: a name and a function, or a table with these and more.
fn registration(lua: &Lua, args: &MultiValue) -> Result<Faulty<(FunctionInfo, Function)>> {
    let string = |value: &Value| {
        let text = lua.coerce_string(value.clone()).ok().flatten();
        text.filter(|_| !matches!(value, Value::Boolean(_))).map(|text| text.to_string_lossy())
    };
    match (args.len(), args.front(), args.get(1)) {
        (2, Some(name), Some(callback)) => {
            let Some(name) = string(name) else {
                return line("ERR first argument to redis.register_function must be a string");
            };
            let Value::Function(callback) = callback else {
                return line("ERR second argument to redis.register_function must be a function");
            };
            let flags = Flags::declared();
            Ok(Ok((FunctionInfo { name, description: None, flags }, callback.clone())))
        }
        (1, Some(Value::Table(named)), _) => named_registration(named, string),
        (1, ..) => line(
            "ERR calling redis.register_function with a single argument is only applicable to Lua table (representing \
             named arguments).",
        ),
        _ => line("ERR wrong number of arguments to redis.register_function"),
    }
}

fn named_registration(
    named: &Table,
    string: impl Fn(&Value) -> Option<String>,
) -> Result<Faulty<(FunctionInfo, Function)>> {
    let (mut name, mut callback, mut description) = (None, None, None);
    let mut flags = Flags::declared();
    for pair in named.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let must = |what: &str| line(&format!("ERR {what} argument given to redis.register_function must be a string"));
        match key.as_string().map(|key| key.to_string_lossy()).unwrap_or_default().as_str() {
            "function_name" => match string(&value) {
                Some(text) => name = Some(text),
                None => return must("function_name"),
            },
            "description" => match string(&value) {
                Some(text) => description = Some(text),
                None => return must("description"),
            },
            "callback" => match value {
                Value::Function(function) => callback = Some(function),
                _ => return line("ERR callback argument given to redis.register_function must be a function"),
            },
            "flags" => {
                let Value::Table(list) = value else {
                    return line(
                        "ERR flags argument to redis.register_function must be a table representing function flags",
                    );
                };
                for flag in list.sequence_values::<Value>() {
                    let flag = flag?;
                    let is_known = flag.as_string().is_some_and(|flag| flags.add(&flag.to_string_lossy()));
                    if !is_known {
                        return line("ERR unknown flag given");
                    }
                }
            }
            _ => return line("ERR unknown argument given to redis.register_function"),
        }
    }
    match (name, callback) {
        (None, _) => line("ERR redis.register_function must get a function name argument"),
        (_, None) => line("ERR redis.register_function must get a callback argument"),
        (Some(name), Some(callback)) => Ok(Ok((FunctionInfo { name, description, flags }, callback))),
    }
}

fn add_log(lua: &Lua, redis: &Table, bridge: &Rc<Bridge>) -> Result<()> {
    let asked = Rc::clone(bridge);
    let log = sandbox::function(lua, move |lua, args| {
        if args.len() < 2 {
            return line("ERR redis.log() requires two arguments or more.");
        }
        let Some(level) = as_number(&args[0]) else {
            return line("ERR First argument must be a number (log level).");
        };
        if !(0.0..4.0).contains(&level) {
            return line("ERR Invalid log level.");
        }
        let mut text = Vec::new();
        for value in args.iter().skip(1) {
            if let Some(word) = lua.coerce_string(value.clone())? {
                text.extend_from_slice(if text.is_empty() { b"" } else { b" " });
                text.extend_from_slice(&word.as_bytes());
            }
        }
        asked.log(level as i64, &text);
        Ok(Ok(Value::Nil))
    })?;
    redis.raw_set("log", log)?;
    for (name, number) in [("DEBUG", 0), ("VERBOSE", 1), ("NOTICE", 2), ("WARNING", 3)] {
        redis.raw_set(format!("LOG_{name}"), number)?;
    }
    Ok(())
}

fn add_version(redis: &Table) -> Result<()> {
    redis.raw_set("REDIS_VERSION", version::REDIS)?;
    let number = version::REDIS.split('.').fold(0, |sum, part| sum << 8 | part.parse().unwrap_or(0));
    redis.raw_set("REDIS_VERSION_NUM", number)
}

/// `redis.acl_check_cmd`.
fn may(lua: &Lua, args: &MultiValue, bridge: &Bridge) -> Result<Faulty<Value>> {
    if args.is_empty() {
        return line("ERR Please specify at least one argument for this redis lib call");
    }
    let mut words = Vec::new();
    for value in args {
        match value {
            Value::String(_) | Value::Integer(_) | Value::Number(_) => {
                words.extend(lua.coerce_string(value.clone())?.map(|word| word.as_bytes().to_vec()));
            }
            _ => return line("ERR Lua redis lib command arguments must be strings or integers"),
        }
    }
    match bridge.may(words.iter().map(Vec::as_slice)) {
        Some(may) => Ok(Ok(Value::Boolean(may))),
        None => line("ERR Invalid command passed to redis.acl_check_cmd()"),
    }
}

fn one_field(lua: &Lua, args: &MultiValue, name: &str) -> Result<Faulty<Value>> {
    let table = lua.create_table()?;
    match (args.len(), args.front()) {
        (1, Some(Value::String(text))) if name == "err" => {
            let text = text.as_bytes();
            let text = text.strip_prefix(b"-").unwrap_or(&text);
            let head: &[u8] = if text.contains(&b' ') { b"" } else { b"ERR " };
            table.raw_set(name, lua.create_string([head, text].concat())?)?;
        }
        (1, Some(Value::String(text))) => table.raw_set(name, text)?,
        _ => table.raw_set("err", "ERR wrong number or type of arguments")?,
    }
    Ok(Ok(Value::Table(table)))
}

fn sha1hex(lua: &Lua, args: MultiValue) -> Result<Faulty<Value>> {
    if args.len() != 1 {
        return line("ERR wrong number of arguments");
    }
    let text = lua.coerce_string(args[0].clone())?;
    let hex = text.map_or_else(|| sha1_hex(b""), |text| sha1_hex(&text.as_bytes()));
    lua.create_string(hex).map(|hex| Ok(Value::String(hex)))
}
