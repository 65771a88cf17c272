//! One thread's Lua: it compiles scripts, keeps what it has compiled, and runs one at a time. It must not know where
//! scripts come from, or what commands do.

use super::reply::{self, Parser};
use super::source::Script;
use super::{Host, api, bits, json, raw, sandbox};
use crate::protocol::{Output, Reply, Span, Version};
use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, Result, StdLib, Table, Value, VmState};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes that the scripts of a thread may use, at most.
const MEMORY_MAX: usize = 512 << 20;
/// Instructions between two looks at whether the script may go on.
const INSTRUCTIONS: u32 = 100_000;
/// Compiled scripts of a thread, at most, before those that are gone are looked for.
const COMPILED_MAX: usize = 1024;

/// A run of a script: its arguments.
pub struct Run<'a, K, A> {
    /// What to run.
    pub script: &'a Arc<Script>,
    /// `KEYS`.
    pub keys: K,
    /// `ARGV`.
    pub args: A,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The reply is written.
    Done,
    /// It was ended from outside; nothing is written, and the engine is of no use any more.
    Ended,
}

/// A Lua state with everything that scripts may use.
pub struct Engine {
    lua: Lua,
    /// The real globals, behind those that scripts see.
    globals: Table,
    /// Runs a function, and catches its errors.
    protected: Function,
    slot: Table,
    ask: Table,
    resp: Rc<Cell<u8>>,
    /// Cleared when a script must not go on.
    goes_on: Rc<Cell<bool>>,
    may_go_on: Table,
    compiled: HashMap<String, (Arc<Script>, Function)>,
    buffers: RefCell<(Vec<u8>, Vec<Span>, Output)>,
}

/// What Lua says is wrong.
pub(super) fn message(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => message.clone(),
        mlua::Error::MemoryError(_) => "not enough memory".to_owned(),
        mlua::Error::CallbackError { cause, .. } => message(cause),
        other => other.to_string(),
    }
}

impl Engine {
    /// A fresh state.
    pub fn new() -> Result<Self> {
        let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS, LuaOptions::new())?;
        lua.set_memory_limit(MEMORY_MAX)?;
        let xpcall: Function = lua.globals().raw_get("xpcall")?;
        let globals = sandbox::prepare(&lua)?;
        let (slot, ask, may_go_on) = (lua.create_table()?, lua.create_table()?, lua.create_table()?);
        let resp = Rc::new(Cell::new(2));
        let redis = api::table(&lua, &slot, &ask, &resp)?;
        globals.raw_set("server", redis.clone())?;
        globals.raw_set("redis", redis)?;
        globals.raw_set("cjson", json::table(&lua)?)?;
        globals.raw_set("bit", bits::table(&lua)?)?;
        let code = "local xpcall, handler = ... return function(f) return xpcall(f, handler) end";
        let protected = lua.load(code).set_name("=run").call((xpcall, raw::handler(&lua)?))?;
        sandbox::close(&lua, &globals)?;
        let goes_on = Rc::new(Cell::new(true));
        let (hook_goes_on, ask_first) = (Rc::clone(&goes_on), may_go_on.clone());
        let every = HookTriggers { every_nth_instruction: Some(INSTRUCTIONS), ..HookTriggers::default() };
        lua.set_global_hook(every, move |_, _| {
            let answer = ask_first.raw_get::<Value>(1)?;
            let allowed = match answer {
                Value::Function(ask) => ask.call::<bool>(())?,
                _ => true,
            };
            if allowed && hook_goes_on.get() {
                return Ok(VmState::Continue);
            }
            hook_goes_on.set(false);
            Err(mlua::Error::runtime("Script killed by user with SCRIPT KILL."))
        })?;
        Ok(Self {
            lua,
            globals,
            protected,
            slot,
            ask,
            resp,
            goes_on,
            may_go_on,
            compiled: HashMap::new(),
            buffers: RefCell::default(),
        })
    }

    /// Bytes that the state takes.
    pub fn memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// A script that was compiled before, and is still in the cache.
    pub fn known(&mut self, sha: &str) -> Option<Arc<Script>> {
        let script = &self.compiled.get(sha)?.0;
        if script.is_gone() {
            self.compiled.remove(sha);
            return None;
        }
        Some(Arc::clone(script))
    }

    /// Compiles a script, unless it is; or the error.
    pub fn compile(&mut self, script: &Arc<Script>) -> std::result::Result<(), String> {
        if self.compiled.get(&script.sha).is_some_and(|(known, _)| !known.is_gone()) {
            return Ok(());
        }
        if self.compiled.len() >= COMPILED_MAX {
            self.compiled.retain(|_, (script, _)| !script.is_gone());
        }
        let function = sandbox::compile_script(&self.lua, script.code())
            .map_err(|text| format!("ERR Error compiling script (new function): {text}"))?;
        self.compiled.insert(script.sha.clone(), (Arc::clone(script), function));
        Ok(())
    }

    /// Runs a script that was compiled, and writes its reply.
    pub fn run<'a>(
        &mut self,
        run: Run<'a, impl Iterator<Item = &'a [u8]>, impl Iterator<Item = &'a [u8]>>,
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Ran {
        let Some((_, function)) = self.compiled.get(&run.script.sha) else { return Ran::Ended };
        let function = function.clone();
        let sha = &run.script.sha;
        self.resp.set(2);
        self.goes_on.set(true);
        let ran = self.set_arguments(run.keys, run.args).and_then(|()| self.execute(&function, host));
        self.lua.gc_restart();
        let mark = reply.output().mark();
        let failure = match ran {
            _ if !self.goes_on.get() => return Ran::Ended,
            Ok((true, value)) => match reply::write(reply, &value, self.resp.get() == 3, 0) {
                Ok(()) => return Ran::Done,
                Err(error) => message(&error),
            },
            Ok((false, error)) => {
                reply.error_bytes(&failure(&error, sha));
                return Ran::Done;
            }
            Err(error) => message(&error),
        };
        reply.output().truncate(mark);
        reply.error(&format!("ERR {failure}"));
        Ran::Done
    }

    fn set_arguments<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
        args: impl Iterator<Item = &'a [u8]>,
    ) -> Result<()> {
        self.set_words("KEYS", keys)?;
        self.set_words("ARGV", args)
    }

    fn set_words<'a>(&self, name: &str, words: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let table = self.lua.create_table()?;
        for (index, word) in words.enumerate() {
            table.raw_seti(index + 1, self.lua.create_string(word)?)?;
        }
        self.globals.raw_set(name, table)
    }

    fn execute(&self, function: &Function, host: &mut dyn Host) -> Result<(bool, Value)> {
        let host = RefCell::new(host);
        let result = self.lua.scope(|scope| {
            let call = scope.create_function(|lua, args: MultiValue| self.call(lua, &args, &host))?;
            let ask = scope.create_function(|lua, args: MultiValue| self.ask(lua, &args, &host))?;
            let may_go_on =
                scope.create_function(|_, ()| Ok(host.try_borrow().map_or(true, |host| host.may_go_on())))?;
            self.slot.raw_set(1, call)?;
            self.ask.raw_set(1, ask)?;
            self.may_go_on.raw_set(1, may_go_on)?;
            self.protected.call::<(bool, Value)>(function)
        });
        self.may_go_on.raw_set(1, Value::Nil)?;
        result
    }

    /// Takes arguments of a command; false if one is no text or number.
    fn words(args: &MultiValue, buf: &mut Vec<u8>, spans: &mut Vec<Span>) -> bool {
        buf.clear();
        spans.clear();
        let mut number = Vec::new();
        for value in args.iter().skip(1) {
            match value {
                Value::String(text) => Span::pack(std::iter::once(&*text.as_bytes()), buf, spans),
                Value::Integer(_) | Value::Number(_) => {
                    number.clear();
                    reply::argument(reply::number(value).unwrap_or_default(), &mut number);
                    Span::pack(std::iter::once(number.as_slice()), buf, spans);
                }
                _ => return false,
            }
            if buf.len() > u32::MAX as usize / 2 {
                return false;
            }
        }
        true
    }

    /// `redis.call` (the first argument is true) and `redis.pcall`.
    fn call(&self, lua: &Lua, args: &MultiValue, host: &RefCell<&mut dyn Host>) -> Result<(bool, Value)> {
        let raises = args.front() == Some(&Value::Boolean(true));
        let mut buffers = self.buffers.borrow_mut();
        let (buf, spans, out) = &mut *buffers;
        out.clear(64 * 1024);
        let version = if self.resp.get() == 3 { Version::V3 } else { Version::V2 };
        let value = if args.len() < 2 {
            reply::error(lua, b"ERR Please specify at least one argument for this redis lib call")?
        } else if !Self::words(args, buf, spans) {
            reply::error(lua, b"ERR Lua redis lib command arguments must be strings or integers")?
        } else {
            host.borrow_mut().call(buf, spans, version, out);
            match out.contiguous() {
                Some(bytes) => Parser::new(bytes).value(lua)?,
                None => {
                    let bytes: Vec<u8> = out.drain_chunks(0).into_iter().flatten().collect();
                    Parser::new(&bytes).value(lua)?
                }
            }
        };
        let failed = raises && matches!(&value, Value::Table(table) if table.raw_get::<Value>("err")?.is_string());
        Ok((!failed, value))
    }

    /// `redis.log` (the first argument is true) and `redis.acl_check_cmd`.
    fn ask(&self, lua: &Lua, args: &MultiValue, host: &RefCell<&mut dyn Host>) -> Result<(bool, Value)> {
        let fail = |text: &str| Ok((false, reply::error(lua, text.as_bytes())?));
        if args.front() == Some(&Value::Boolean(true)) {
            if args.len() < 3 {
                return fail("ERR redis.log() requires two arguments or more.");
            }
            let Some(level) = reply::number(&args[1]) else {
                return fail("ERR First argument must be a number (log level).");
            };
            if !(0.0..=3.0).contains(&level) {
                return fail("ERR Invalid log level.");
            }
            let mut line = Vec::new();
            for value in args.iter().skip(2) {
                if let Some(text) = lua.coerce_string(value.clone())? {
                    line.extend_from_slice(if line.is_empty() { b"" } else { b" " });
                    line.extend_from_slice(&text.as_bytes());
                }
            }
            host.borrow().log(level as i64, &line);
            return Ok((true, Value::Nil));
        }
        let mut buffers = self.buffers.borrow_mut();
        let (buf, spans, _) = &mut *buffers;
        if args.len() < 2 {
            return fail("ERR Please specify at least one argument for this redis lib call");
        }
        if !Self::words(args, buf, spans) {
            return fail("ERR Lua redis lib command arguments must be strings or integers");
        }
        match host.borrow().may(buf, spans) {
            Some(may) => Ok((true, Value::Boolean(may))),
            None => fail("ERR Invalid command passed to redis.acl_check_cmd()"),
        }
    }
}

/// The line for an error that no script caught.
fn failure(error: &Value, sha: &str) -> Vec<u8> {
    let Value::Table(table) = error else { return b"ERR unknown error".to_vec() };
    let field = |name: &str| table.raw_get::<Value>(name).unwrap_or(Value::Nil);
    let mut line = match field("err") {
        Value::String(text) => text.as_bytes().to_vec(),
        _ => b"ERR unknown error".to_vec(),
    };
    if let (Value::String(source), Some(number)) = (field("source"), reply::number(&field("line"))) {
        line.extend(format!(" script: {sha}, on {}:{number}.", source.to_string_lossy()).bytes());
    }
    line
}
