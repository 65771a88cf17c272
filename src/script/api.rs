//! `redis.*`, which is also `server.*`: commands, errors, the log. Commands are the [`super::Host`]'s.

use super::raw;
use super::reply;
use super::sandbox::{self, Answer};
use super::source::sha1_hex;
use crate::version;
use mlua::{Lua, MultiValue, Result, Table, Value};
use std::cell::Cell;
use std::rc::Rc;

/// Makes the table. The function that runs commands stands first in `slot` while a script runs, and what answers
/// questions of the other kinds first in `ask`.
pub(super) fn table(lua: &Lua, slot: &Table, ask: &Table, resp: &Rc<Cell<u8>>) -> Result<Table> {
    let redis = lua.create_table()?;
    redis.raw_set("call", raw::raising_slot(lua, slot, true)?)?;
    redis.raw_set("pcall", raw::raising_slot(lua, slot, false)?)?;
    redis.raw_set("log", raw::raising_slot(lua, ask, true)?)?;
    redis.raw_set("acl_check_cmd", raw::raising_slot(lua, ask, false)?)?;
    redis.raw_set("error_reply", sandbox::function(lua, |lua, args| one_field(lua, &args, "err"))?)?;
    redis.raw_set("status_reply", sandbox::function(lua, |lua, args| one_field(lua, &args, "ok"))?)?;
    redis.raw_set("sha1hex", failing(lua, sha1hex)?)?;
    let version = Rc::clone(resp);
    let setresp = failing(lua, move |lua, args| {
        if args.len() != 1 {
            return Ok(Err("ERR redis.setresp() requires one argument.".to_owned()));
        }
        match lua.coerce_number(args[0].clone())?.map(|number| number as i64) {
            Some(number @ 2..=3) => version.set(number as u8),
            _ => return Ok(Err("ERR RESP version must be 2 or 3.".to_owned())),
        }
        Ok(Ok(Value::Nil))
    })?;
    redis.raw_set("setresp", setresp)?;
    let set_repl = failing(lua, |lua, args| {
        if args.len() != 1 {
            return Ok(Err("ERR redis.set_repl() requires one argument.".to_owned()));
        }
        let flags = lua.coerce_number(args[0].clone())?.unwrap_or(0.0) as i64;
        Ok(match flags {
            0..=3 => Ok(Value::Nil),
            _ => Err("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.".to_owned()),
        })
    })?;
    redis.raw_set("set_repl", set_repl)?;
    redis.raw_set("replicate_commands", sandbox::function(lua, |_, _| Ok(Ok(Value::Boolean(true))))?)?;
    // There is no debugger.
    redis.raw_set("breakpoint", sandbox::function(lua, |_, _| Ok(Ok(Value::Boolean(false))))?)?;
    redis.raw_set("debug", sandbox::function(lua, |_, _| Ok(Ok(Value::Nil)))?)?;
    for (name, number) in [("DEBUG", 0), ("VERBOSE", 1), ("NOTICE", 2), ("WARNING", 3)] {
        redis.raw_set(format!("LOG_{name}"), number)?;
    }
    for (name, number) in [("NONE", 0), ("AOF", 1), ("SLAVE", 2), ("REPLICA", 2), ("ALL", 3)] {
        redis.raw_set(format!("REPL_{name}"), number)?;
    }
    redis.raw_set("REDIS_VERSION", version::REDIS)?;
    let number = version::REDIS.split('.').fold(0, |sum, part| sum << 8 | part.parse().unwrap_or(0));
    redis.raw_set("REDIS_VERSION_NUM", number)?;
    Ok(redis)
}

/// A function whose errors are those of the server: tables, with no place in the text.
fn failing(lua: &Lua, f: impl Fn(&Lua, MultiValue) -> Result<Answer> + 'static) -> Result<mlua::Function> {
    let inner = lua.create_function(move |lua, args: MultiValue| {
        Ok(match f(lua, args)? {
            Ok(value) => (true, value),
            Err(text) => (false, reply::error(lua, text.as_bytes())?),
        })
    })?;
    raw::raising(lua, inner)
}

fn one_field(lua: &Lua, args: &MultiValue, name: &str) -> Result<Answer> {
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

fn sha1hex(lua: &Lua, args: MultiValue) -> Result<Answer> {
    if args.len() != 1 {
        return Ok(Err("ERR wrong number of arguments".to_owned()));
    }
    let text = lua.coerce_string(args[0].clone())?;
    let hex = text.map_or_else(|| sha1_hex(b""), |text| sha1_hex(&text.as_bytes()));
    lua.create_string(hex).map(|hex| Ok(Value::String(hex)))
}
