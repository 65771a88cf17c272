//! What scripts find in their world, and that they cannot change it. Tables that all scripts share are shown through
//! empty ones that refuse writes. It must not know commands.

use super::raw;
use mlua::{Function, Lua, MultiValue, Result, Table, Value};
use std::cell::Cell;

/// What a function answers with that [`raw::raising`] wraps: results, or the error.
pub(super) type Answer = std::result::Result<Value, String>;

/// Makes a Lua function of one that may fail with a text.
pub(super) fn function(lua: &Lua, f: impl Fn(&Lua, MultiValue) -> Result<Answer> + 'static) -> Result<Function> {
    let inner = lua.create_function(move |lua, args: MultiValue| {
        Ok(match f(lua, args)? {
            Ok(value) => (true, value),
            Err(text) => (false, Value::String(lua.create_string(text)?)),
        })
    })?;
    raw::raising(lua, inner)
}

/// The same of one with several results.
pub(super) fn function_multi(
    lua: &Lua,
    f: impl Fn(&Lua, MultiValue) -> Result<std::result::Result<Vec<Value>, String>> + 'static,
) -> Result<Function> {
    let inner = lua.create_function(move |lua, args: MultiValue| {
        let mut results = MultiValue::new();
        match f(lua, args)? {
            Ok(values) => values.into_iter().rev().for_each(|value| results.push_front(value)),
            Err(text) => {
                results.push_front(Value::String(lua.create_string(text)?));
                results.push_front(Value::Boolean(false));
                return Ok(results);
            }
        }
        results.push_front(Value::Boolean(true));
        Ok(results)
    })?;
    raw::raising(lua, inner)
}

/// The error of an argument that is of no use.
pub(super) fn bad(index: usize, name: &str, why: &str) -> String {
    format!("bad argument #{index} to '{name}' ({why})")
}

/// A table that shows another one and refuses writes.
pub(super) fn read_only(lua: &Lua, shown: &Table) -> Result<Table> {
    let (proxy, meta) = (lua.create_table()?, lua.create_table()?);
    meta.raw_set("__index", shown)?;
    meta.raw_set("__newindex", function(lua, |_, _| Ok(Err("Attempt to modify a readonly table".to_owned())))?)?;
    meta.raw_set("__readonly", true)?;
    meta.raw_set("__metatable", false)?;
    proxy.set_metatable(Some(meta))?;
    Ok(proxy)
}

/// Lua's own globals that scripts do not get.
const HIDDEN: &[&str] =
    &["dofile", "loadfile", "print", "newproxy", "setfenv", "getfenv", "module", "require", "debug", "package", "io"];

/// Prepares the globals of a fresh state, except for the libraries that Redis adds. Returns them, writable.
pub(super) fn prepare(lua: &Lua) -> Result<Table> {
    let globals = lua.globals();
    for name in HIDDEN {
        globals.raw_set(*name, Value::Nil)?;
    }
    let os = lua.create_table()?;
    os.raw_set("clock", globals.raw_get::<Table>("os")?.raw_get::<Function>("clock")?)?;
    globals.raw_set("os", os)?;
    for (table, names) in [(None, &["rawset", "setmetatable"][..]), (Some("table"), &["insert", "remove", "sort"])] {
        let table = table.map_or(Ok(globals.clone()), |name| globals.raw_get::<Table>(name))?;
        for name in names {
            let inner: Function = table.raw_get(*name)?;
            table.raw_set(*name, raw::guarded(lua, inner)?)?;
        }
    }
    let (pairs, next) = raw::iterators(lua)?;
    globals.raw_set("pairs", pairs)?;
    globals.raw_set("next", next)?;
    globals.raw_set("pcall", plain_pcall(lua, &globals)?)?;
    loaders(lua, &globals)?;
    random(lua, &globals.raw_get("math")?)?;
    Ok(globals)
}

/// Errors that are tables of the server's making come as texts.
fn plain_pcall(lua: &Lua, globals: &Table) -> Result<Function> {
    let code = "local pcall, type = ...
        local function plain(ok, err, ...)
            if not ok and type(err) == 'table' and err.err ~= nil then return ok, err.err end
            return ok, err, ...
        end
        return function(...) return plain(pcall(...)) end";
    let inner: (Function, Function) = (globals.raw_get("pcall")?, globals.raw_get("type")?);
    lua.load(code).set_name("=pcall").call(inner)
}

const NAME: &str = "user_script";

/// Code is text: the virtual machine does not survive every byte code.
fn compile(lua: &Lua, code: &[u8], name: &str) -> std::result::Result<Function, String> {
    let name = if name.starts_with(['@', '=']) { name.to_owned() } else { format!("={name}") };
    let chunk = lua.load(code).set_name(name).set_mode(mlua::chunk::ChunkMode::Text);
    chunk.into_function().map_err(|error| super::engine::message(&error))
}

fn loaders(lua: &Lua, globals: &Table) -> Result<()> {
    let load = |lua: &Lua, code: &[u8], name: Option<Value>| -> Result<std::result::Result<Vec<Value>, String>> {
        let name = match name {
            Some(Value::String(name)) => name.to_string_lossy(),
            _ => format!("[string \"{}\"]", String::from_utf8_lossy(code).lines().next().unwrap_or_default()),
        };
        Ok(Ok(match compile(lua, code, &name) {
            Ok(function) => vec![Value::Function(function)],
            Err(text) => vec![Value::Nil, Value::String(lua.create_string(text)?)],
        }))
    };
    let from_text = function_multi(lua, move |lua, args| {
        let mut args = args.into_iter();
        let Some(code) = args.next().map(|code| lua.coerce_string(code)).transpose()?.flatten() else {
            return Ok(Err(bad(1, "loadstring", "string expected")));
        };
        load(lua, &code.as_bytes(), args.next())
    })?;
    globals.raw_set("loadstring", from_text)?;
    let from_pieces = function_multi(lua, move |lua, args| {
        let mut args = args.into_iter();
        let Some(Value::Function(pieces)) = args.next() else {
            return Ok(Err(bad(1, "load", "function expected")));
        };
        let mut code = Vec::new();
        while let Ok(Value::String(piece)) = pieces.call::<Value>(()) {
            if piece.as_bytes().is_empty() {
                break;
            }
            code.extend_from_slice(&piece.as_bytes());
        }
        let name = args.next().or(Some(Value::String(lua.create_string("=(load)")?)));
        load(lua, &code, name)
    })?;
    globals.raw_set("load", from_pieces)
}

/// Random numbers that are the same in every server: POSIX's lrand48.
fn random(lua: &Lua, math: &Table) -> Result<()> {
    let state = std::rc::Rc::new(Cell::new(0x1234_abcd_330e_u64));
    let seeded = std::rc::Rc::clone(&state);
    let seed = function(lua, move |lua, args| {
        let Some(seed) = args.front().and_then(|seed| lua.coerce_number(seed.clone()).ok().flatten()) else {
            return Ok(Err(bad(1, "randomseed", "number expected, got no value")));
        };
        seeded.set(u64::from(seed as i64 as u32) << 16 | 0x330e);
        Ok(Ok(Value::Nil))
    })?;
    math.raw_set("randomseed", seed)?;
    let draw = function(lua, move |lua, args| {
        state.set((state.get().wrapping_mul(0x5_deec_e66d) + 0xb) & ((1 << 48) - 1));
        let unit = ((state.get() >> 17) % 0x7fff_ffff) as f64 / f64::from(0x7fff_ffff_u32);
        let mut bounds = Vec::new();
        for (index, arg) in args.iter().enumerate() {
            match lua.coerce_number(arg.clone())? {
                Some(bound) => bounds.push(bound.trunc()),
                None => {
                    return Ok(Err(bad(index + 1, "random", &format!("number expected, got {}", arg.type_name()))));
                }
            }
        }
        Ok(match *bounds.as_slice() {
            [] => Ok(Value::Number(unit)),
            [high] if high >= 1.0 => Ok(Value::Number((unit * high).floor() + 1.0)),
            [_] => Err(bad(1, "random", "interval is empty")),
            [low, high] if low <= high => Ok(Value::Number((unit * (high - low + 1.0)).floor() + low)),
            [_, _] => Err(bad(2, "random", "interval is empty")),
            _ => Err("wrong number of arguments".to_owned()),
        })
    })?;
    math.raw_set("random", draw)
}

/// Closes the world: nothing that scripts share can be changed from here on.
pub(super) fn close(lua: &Lua, globals: &Table) -> Result<()> {
    for name in ["string", "table", "math", "os", "coroutine", "redis", "server", "cjson", "cmsgpack", "struct", "bit"]
    {
        if let Value::Table(table) = globals.raw_get(name)? {
            let shown = read_only(lua, &table)?;
            if name == "string"
                && let Value::Function(get) = globals.raw_get("getmetatable")?
                && let Value::Table(meta) = get.call::<Value>("")?
            {
                meta.raw_set("__index", &shown)?;
                meta.raw_set("__metatable", read_only(lua, &meta.clone())?)?;
            }
            globals.raw_set(name, shown)?;
        }
    }
    let unknown = function(lua, |lua, args| {
        let name = args.get(1).cloned().and_then(|name| lua.coerce_string(name).ok().flatten());
        let name = name.map(|name| name.to_string_lossy()).unwrap_or_default();
        Ok(Err(format!("Script attempted to access nonexistent global variable '{name}'")))
    })?;
    let shown = lua.create_table()?;
    shown.raw_set("__index", &unknown)?;
    let meta = lua.create_table()?;
    meta.raw_set("__index", unknown)?;
    globals.set_metatable(Some(meta))?;
    let world = read_only(lua, globals)?;
    if let Some(meta) = world.metatable() {
        meta.raw_set("__metatable", read_only(lua, &shown)?)?;
    }
    globals.raw_set("_G", &world)?;
    lua.set_globals(world)
}

/// Makes a function of a script's code.
pub(super) fn compile_script(lua: &Lua, code: &[u8]) -> std::result::Result<Function, String> {
    compile(lua, code, &format!("@{NAME}"))
}
