//! What scripts find in their world, and that they cannot change it. Tables that all scripts share are shown through
//! empty ones that refuse writes. It must not know commands.

use super::raw;
use mlua::{Function, Lua, LuaString, MultiValue, Result, Table, Value};
use std::cell::Cell;

/// What is wrong with a call, as the error that it raises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// This text, behind the place of the call.
    Text(String),
    /// This is wrong with that argument.
    Arg(usize, String),
    /// This line, as an error reply.
    Line(String),
}

impl From<&str> for Fault {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// What came of a call, or what is wrong with it.
pub(super) type Faulty<T> = std::result::Result<T, Fault>;

/// Makes a Lua function of one that may fail.
pub(super) fn function(lua: &Lua, f: impl Fn(&Lua, MultiValue) -> Result<Faulty<Value>> + 'static) -> Result<Function> {
    function_multi(lua, move |lua, args| Ok(f(lua, args)?.map(|value| vec![value])))
}

/// The same of one with several results.
pub(super) fn function_multi(
    lua: &Lua,
    f: impl Fn(&Lua, MultiValue) -> Result<Faulty<Vec<Value>>> + 'static,
) -> Result<Function> {
    let inner = lua.create_function(move |lua, args: MultiValue| {
        let mut results = MultiValue::new();
        match f(lua, args)? {
            Ok(values) => {
                results.extend(std::iter::once(Value::Boolean(true)).chain(values));
            }
            Err(fault) => {
                results.push_back(Value::Boolean(false));
                let (text, arg) = match fault {
                    Fault::Text(text) => (text, None),
                    Fault::Arg(arg, text) => (text, Some(arg)),
                    Fault::Line(line) => {
                        let error = lua.create_table()?;
                        error.raw_set("err", line)?;
                        results.push_back(Value::Table(error));
                        return Ok(results);
                    }
                };
                results.push_back(Value::String(lua.create_string(text)?));
                results.extend(arg.map(|arg| Value::Integer(arg as i64)));
            }
        }
        Ok(results)
    })?;
    raw::raising(lua, inner)
}

/// The error of an argument that is of no use.
pub(super) fn bad(arg: usize, why: impl Into<String>) -> Fault {
    Fault::Arg(arg, why.into())
}

fn expected(args: &MultiValue, arg: usize, wanted: &str) -> Fault {
    let found = match args.get(arg - 1) {
        None => "no value",
        Some(Value::Integer(_)) => "number",
        Some(Value::LightUserData(_)) => "userdata",
        Some(value) => value.type_name(),
    };
    bad(arg, format!("{wanted} expected, got {found}"))
}

/// Argument number `arg`, which must be a number or read as one.
pub(super) fn number(lua: &Lua, args: &MultiValue, arg: usize) -> Result<Faulty<f64>> {
    Ok(match args.get(arg - 1) {
        Some(Value::Number(number)) => Ok(*number),
        Some(Value::Integer(number)) => Ok(*number as f64),
        Some(value @ Value::String(_)) => {
            lua.coerce_number(value.clone())?.ok_or_else(|| expected(args, arg, "number"))
        }
        _ => Err(expected(args, arg, "number")),
    })
}

/// The same as an integer; `absent` if there is no such argument, or nil.
pub(super) fn integer(lua: &Lua, args: &MultiValue, arg: usize, absent: Option<i64>) -> Result<Faulty<i64>> {
    match (args.get(arg - 1), absent) {
        (None | Some(Value::Nil), Some(absent)) => Ok(Ok(absent)),
        _ => Ok(number(lua, args, arg)?.map(|number| number as i64)),
    }
}

/// Argument number `arg`, which must be a string or a number.
pub(super) fn text(lua: &Lua, args: &MultiValue, arg: usize) -> Result<Faulty<LuaString>> {
    Ok(match args.get(arg - 1) {
        Some(value @ (Value::String(_) | Value::Number(_) | Value::Integer(_))) => {
            lua.coerce_string(value.clone())?.ok_or_else(|| expected(args, arg, "string"))
        }
        _ => Err(expected(args, arg, "string")),
    })
}

/// A number, which Lua's binding gives in two forms.
pub(super) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// A table that shows another one and refuses writes.
pub(super) fn read_only(lua: &Lua, shown: &Table) -> Result<Table> {
    let (proxy, meta) = (lua.create_table()?, lua.create_table()?);
    meta.raw_set("__index", shown)?;
    meta.raw_set("__newindex", function(lua, |_, _| Ok(Err("Attempt to modify a readonly table".into())))?)?;
    meta.raw_set("__readonly", true)?;
    meta.raw_set("__metatable", false)?;
    proxy.set_metatable(Some(meta))?;
    Ok(proxy)
}

/// Bytes of code that `load` puts together, at most.
const CODE_MAX: usize = 64 << 20;

/// What a read-only table shows; any other table itself.
pub(super) fn shown(table: &Table) -> Result<Table> {
    if let Some(meta) = table.metatable()
        && meta.raw_get::<Value>("__readonly")? == Value::Boolean(true)
        && let Value::Table(shown) = meta.raw_get("__index")?
    {
        return Ok(shown);
    }
    Ok(table.clone())
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
    globals.raw_set("rawget", raw::seeing_through(lua, globals.raw_get("rawget")?)?)?;
    let string: Table = globals.raw_get("string")?;
    for name in ["find", "match", "gmatch", "gsub", "gfind"] {
        string.raw_set(name, raw::matching(lua, string.raw_get(name)?)?)?;
    }
    string.raw_set("rep", raw::repeating(lua, string.raw_get("rep")?)?)?;
    let (pairs, next) = raw::iterators(lua)?;
    globals.raw_set("pairs", pairs)?;
    globals.raw_set("next", next)?;
    globals.raw_set("pcall", plain_pcall(lua, &globals)?)?;
    loaders(lua, &globals)?;
    collector(lua, &globals)?;
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

/// Makes a function of code, which is text: the virtual machine does not survive every byte code. `globals`: what it
/// finds as such, instead of the state's.
pub(super) fn compile(
    lua: &Lua,
    code: &[u8],
    name: &str,
    globals: Option<&Table>,
) -> std::result::Result<Function, String> {
    let name = if name.starts_with(['@', '=']) { name.to_owned() } else { format!("={name}") };
    let chunk = lua.load(code).set_name(name).set_mode(mlua::chunk::ChunkMode::Text);
    let chunk = if let Some(globals) = globals { chunk.set_environment(globals.clone()) } else { chunk };
    chunk.into_function().map_err(|error| super::engine::message(&error))
}

fn loaders(lua: &Lua, globals: &Table) -> Result<()> {
    let load = |lua: &Lua, code: &[u8], name: Option<Value>| -> Result<Faulty<Vec<Value>>> {
        let name = match name {
            Some(Value::String(name)) => name.to_string_lossy(),
            _ => format!("[string \"{}\"]", String::from_utf8_lossy(code).lines().next().unwrap_or_default()),
        };
        Ok(Ok(match compile(lua, code, &name, None) {
            Ok(function) => vec![Value::Function(function)],
            Err(text) => vec![Value::Nil, Value::String(lua.create_string(text)?)],
        }))
    };
    let from_text = function_multi(lua, move |lua, args| match text(lua, &args, 1)? {
        Ok(code) => load(lua, &code.as_bytes(), args.get(1).cloned()),
        Err(fault) => Ok(Err(fault)),
    })?;
    globals.raw_set("loadstring", from_text)?;
    let from_pieces = function_multi(lua, move |lua, args| {
        let Some(Value::Function(pieces)) = args.front() else { return Ok(Err(expected(&args, 1, "function"))) };
        let mut code = Vec::new();
        while let Ok(Value::String(piece)) = pieces.call::<Value>(()) {
            if piece.as_bytes().is_empty() {
                break;
            }
            code.extend_from_slice(&piece.as_bytes());
            if code.len() > CODE_MAX {
                return Ok(Err("not enough memory".into()));
            }
        }
        let name = args.get(1).cloned().or(Some(Value::String(lua.create_string("=(load)")?)));
        load(lua, &code, name)
    })?;
    globals.raw_set("load", from_pieces)
}

/// Garbage is collected as it comes: what scripts say about that would hold for those after them.
fn collector(lua: &Lua, globals: &Table) -> Result<()> {
    let collect = function(lua, |lua, args| {
        let option = match args.front() {
            None | Some(Value::Nil) => "collect".to_owned(),
            Some(_) => match text(lua, &args, 1)? {
                Ok(option) => option.to_string_lossy(),
                Err(fault) => return Ok(Err(fault)),
            },
        };
        Ok(match option.as_str() {
            "collect" => {
                lua.gc_collect()?;
                Ok(Value::Integer(0))
            }
            "count" => Ok(Value::Number(lua.used_memory() as f64 / 1024.0)),
            "step" => Ok(Value::Boolean(lua.gc_step()?)),
            "stop" | "restart" => Ok(Value::Integer(0)),
            "setpause" | "setstepmul" => Ok(Value::Integer(200)),
            other => Err(bad(1, format!("invalid option '{other}'"))),
        })
    })?;
    globals.raw_set("collectgarbage", collect)
}

/// Random numbers that are the same in every server: POSIX's lrand48.
fn random(lua: &Lua, math: &Table) -> Result<()> {
    let state = std::rc::Rc::new(Cell::new(0x1234_abcd_330e_u64));
    let seeded = std::rc::Rc::clone(&state);
    let seed = function(lua, move |lua, args| {
        Ok(integer(lua, &args, 1, None)?.map(|seed| {
            seeded.set(u64::from(seed as u32) << 16 | 0x330e);
            Value::Nil
        }))
    })?;
    math.raw_set("randomseed", seed)?;
    let draw = function(lua, move |lua, args| {
        state.set((state.get().wrapping_mul(0x5_deec_e66d) + 0xb) & ((1 << 48) - 1));
        let unit = ((state.get() >> 17) % 0x7fff_ffff) as f64 / f64::from(0x7fff_ffff_u32);
        let mut bounds = Vec::new();
        for arg in 1..=args.len().min(2) {
            match number(lua, &args, arg)? {
                Ok(bound) => bounds.push(bound.trunc()),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        if args.len() > 2 {
            return Ok(Err("wrong number of arguments".into()));
        }
        Ok(match *bounds.as_slice() {
            [] => Ok(Value::Number(unit)),
            [high] if high >= 1.0 => Ok(Value::Number((unit * high).floor() + 1.0)),
            [_] => Err(bad(1, "interval is empty")),
            [low, high] if low <= high => Ok(Value::Number((unit * (high - low + 1.0)).floor() + low)),
            _ => Err(bad(2, "interval is empty")),
        })
    })?;
    math.raw_set("random", draw)
}

/// From here on nothing can change the libraries, which all scripts share.
pub(super) fn close_libraries(lua: &Lua, globals: &Table) -> Result<()> {
    for name in ["string", "table", "math", "os", "coroutine", "cjson", "cmsgpack", "struct", "bit"] {
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
    Ok(())
}

/// What code sees as its globals: those of `globals`, unchangeable, and an error for others. Returns the metatable that
/// says so, too.
pub(super) fn world(lua: &Lua, globals: &Table) -> Result<(Table, Table)> {
    let unknown = unknown_global(lua)?;
    let shown = lua.create_table()?;
    shown.raw_set("__index", &unknown)?;
    let meta = lua.create_table()?;
    meta.raw_set("__index", unknown)?;
    globals.set_metatable(Some(meta))?;
    let world = read_only(lua, globals)?;
    let meta = world.metatable().ok_or_else(|| mlua::Error::runtime("no metatable"))?;
    meta.raw_set("__metatable", read_only(lua, &shown)?)?;
    Ok((world, meta))
}

/// What is asked for a global that is not there.
pub(super) fn unknown_global(lua: &Lua) -> Result<Function> {
    function(lua, |lua, args| {
        let name = args.get(1).cloned().and_then(|name| lua.coerce_string(name).ok().flatten());
        let name = name.map(|name| name.to_string_lossy()).unwrap_or_default();
        Ok(Err(format!("Script attempted to access nonexistent global variable '{name}'").into()))
    })
}
