//! One thread's Lua: it compiles scripts and libraries, keeps what it has compiled, and runs one at a time. It must not
//! know where scripts come from, or what commands do.

use super::api::{self, Registered};
use super::bridge::{Bridge, Fiber, Job, Step};
use super::library::Library;
use super::source::Script;
use super::{Host, bits, json, msgpack, pack, sandbox};
use crate::clock;
use crate::protocol::{Output, Span, Version};
use mlua::{Function, Lua, LuaOptions, Result, StdLib, Table, Value};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes that the scripts of a thread may use, at most.
const MEMORY_MAX: usize = 512 << 20;
/// Bytes from which on a run's garbage is collected at once.
const MEMORY_LARGE: usize = 64 << 20;
/// Compiled scripts of a thread, at most, before those that are gone are looked for.
const COMPILED_MAX: usize = 1024;
/// How long a library's code may take to register its functions, in ns.
const LOAD_NS: u64 = 500_000_000;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// A script that was compiled.
    Script(&'a Arc<Script>),
    /// A function of a library that was loaded.
    Function(&'a Arc<Library>, &'a str),
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The reply is written.
    Done,
    /// It has run for a while: [`Engine::go_on`] continues it.
    Paused,
}

/// A library that was loaded, and its functions.
struct Loaded {
    library: Arc<Library>,
    functions: Vec<(String, Function)>,
}

/// A Lua state with everything that scripts may use.
pub struct Engine {
    fiber: Fiber,
    compiled: HashMap<String, (Arc<Script>, Function)>,
    libraries: HashMap<String, Loaded>,
    registered: Registered,
    /// The real globals, behind those that scripts see.
    globals: Table,
    /// The globals of libraries, and the metatable that says what they show.
    library_world: Table,
    library_meta: Table,
    library_globals: Table,
    /// What they show while a library is loaded.
    loading_globals: Table,
    lua: Lua,
    bridge: Rc<Bridge>,
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
        let bridge = Rc::new(Bridge::default());
        let globals = sandbox::prepare(&lua)?;
        globals.raw_set("cjson", json::table(&lua)?)?;
        globals.raw_set("cmsgpack", msgpack::table(&lua)?)?;
        globals.raw_set("struct", pack::table(&lua)?)?;
        globals.raw_set("bit", bits::table(&lua)?)?;
        sandbox::close_libraries(&lua, &globals)?;
        let library_globals = lua.create_table()?;
        globals.for_each(|name: Value, value: Value| library_globals.raw_set(name, value))?;
        let redis = api::table(&lua, &bridge)?;
        let for_functions = sandbox::read_only(&lua, &redis)?;
        let for_scripts = lua.create_table()?;
        redis.for_each(|name: Value, value: Value| for_scripts.raw_set(name, value))?;
        api::add_script_only(&lua, &for_scripts)?;
        let for_scripts = sandbox::read_only(&lua, &for_scripts)?;
        let registered = Registered::default();
        let for_loading = sandbox::read_only(&lua, &api::load_table(&lua, &bridge, &registered)?)?;
        let loading_globals = lua.create_table()?;
        for name in ["redis", "server"] {
            globals.raw_set(name, &for_scripts)?;
            library_globals.raw_set(name, &for_functions)?;
            loading_globals.raw_set(name, &for_loading)?;
        }
        let (library_world, library_meta) = sandbox::world(&lua, &library_globals)?;
        loading_globals.set_metatable(library_globals.metatable())?;
        library_globals.raw_set("_G", &library_world)?;
        let (world, _) = sandbox::world(&lua, &globals)?;
        globals.raw_set("_G", &world)?;
        lua.set_globals(world)?;
        let fiber = Fiber::new(&lua, &bridge)?;
        Ok(Self {
            fiber,
            compiled: HashMap::new(),
            libraries: HashMap::new(),
            registered,
            globals,
            library_world,
            library_meta,
            library_globals,
            loading_globals,
            lua,
            bridge,
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
        let function = sandbox::compile(&self.lua, script.code(), "@user_script", None)
            .map_err(|text| format!("ERR Error compiling script (new function): {text}"))?;
        self.compiled.insert(script.sha.clone(), (Arc::clone(script), function));
        Ok(())
    }

    /// Loads a library, and notes in it what it registers; or the error.
    pub fn load(&mut self, library: &mut Library, host: &mut dyn Host) -> std::result::Result<(), String> {
        let functions = self.register(library, host)?;
        library.functions = functions.into_iter().map(|(info, _)| info).collect();
        Ok(())
    }

    /// Sees that a library is loaded, true if it was not before; or the error.
    pub fn ensure(&mut self, library: &Arc<Library>, host: &mut dyn Host) -> std::result::Result<bool, String> {
        if self.libraries.get(&library.name).is_some_and(|loaded| Arc::ptr_eq(&loaded.library, library)) {
            return Ok(false);
        }
        let functions = self.register(library, host)?.into_iter().map(|(info, f)| (info.name, f)).collect();
        self.libraries.insert(library.name.clone(), Loaded { library: Arc::clone(library), functions });
        Ok(true)
    }

    /// Forgets libraries that are not in force any more.
    pub fn forget(&mut self, is_gone: impl Fn(&Arc<Library>) -> bool) {
        self.libraries.retain(|_, loaded| !is_gone(&loaded.library));
    }

    fn register(
        &mut self,
        library: &Library,
        host: &mut dyn Host,
    ) -> std::result::Result<Vec<(super::FunctionInfo, Function)>, String> {
        let code = sandbox::compile(&self.lua, library.body(), "@user_function", Some(&self.library_world))
            .map_err(|text| format!("ERR Error compiling function: {text}"))?;
        let meta = self.library_meta.clone();
        let show = |globals: &Table| meta.raw_set("__index", globals).map_err(|error| message(&error));
        self.registered.borrow_mut().clear();
        show(&self.loading_globals)?;
        self.clear("");
        self.fiber.begin(&self.bridge, Job::Load(code));
        let ends = clock::monotonic_ns() + LOAD_NS;
        while self.go_on(host) == Ran::Paused {
            if clock::monotonic_ns() >= ends {
                self.end("ERR FUNCTION LOAD timeout");
            }
        }
        show(&self.library_globals)?;
        if let Some(text) = self.bridge.io().failure.take() {
            return Err(format!("ERR Error registering functions: {}", String::from_utf8_lossy(&text)));
        }
        let functions = std::mem::take(&mut *self.registered.borrow_mut());
        if functions.is_empty() { Err("ERR No functions registered".into()) } else { Ok(functions) }
    }

    fn clear(&self, name: &str) {
        let io = self.bridge.io();
        io.buf.clear();
        io.spans.clear();
        io.version = Version::V2;
        io.name.clear();
        io.name.push_str(name);
        (io.reply, io.failure, io.ends) = (Output::new(), None, None);
    }

    /// Begins to run a program with these words, the first `keys` of which are keys. False if it is not there.
    pub fn begin<'a>(
        &mut self,
        program: Program<'_>,
        keys: usize,
        words: impl Iterator<Item = &'a [u8]>,
        version: Version,
    ) -> bool {
        let (name, function) = match program {
            Program::Script(script) => (&*script.sha, self.compiled.get(&script.sha).map(|(_, function)| function)),
            Program::Function(library, name) => {
                let loaded = self.libraries.get(&library.name);
                let found = loaded.and_then(|loaded| loaded.functions.iter().find(|(other, _)| other == name));
                (name, found.map(|(_, function)| function))
            }
        };
        let Some(function) = function.cloned() else { return false };
        self.clear(name);
        let io = self.bridge.io();
        Span::pack(words, &mut io.buf, &mut io.spans);
        io.keys = keys.min(io.spans.len());
        io.reply_version = version;
        let globals = match program {
            Program::Script(_) => Value::Table(self.globals.clone()),
            Program::Function(..) => Value::Nil,
        };
        self.fiber.begin(&self.bridge, Job::Run(function, globals));
        true
    }

    /// Runs the program, for a while at most.
    pub fn go_on(&mut self, host: &mut dyn Host) -> Ran {
        self.fiber.extend(&self.bridge);
        loop {
            let step = self.fiber.go_on();
            let io = self.bridge.io();
            match step {
                Step::Call => {
                    io.out.clear(64 * 1024);
                    host.call(&io.buf, &io.spans, io.version, &mut io.out);
                }
                Step::Log => host.log(io.number, &io.line),
                Step::May => io.number = host.may(&io.buf, &io.spans).map_or(-1, i64::from),
                Step::Pause => return Ran::Paused,
                Step::Over => break,
            }
        }
        if self.lua.used_memory() > MEMORY_LARGE {
            // What cannot be collected now will be later.
            let _ = self.lua.gc_collect();
        }
        Ran::Done
    }

    /// Lets the program end with this error, when it goes on.
    pub fn end(&mut self, why: &'static str) {
        self.bridge.io().ends = Some(why);
    }

    /// The reply of a program that is done.
    pub fn take_reply(&mut self) -> Output {
        std::mem::take(&mut self.bridge.io().reply)
    }
}
