//! The way between Lua and the server: scripts run on a stack of their own, and whenever one asks for something (a
//! command, the log) or has run for a while, that stack is left and [`Step`] says why. So nothing of Lua's lies between
//! a command and its caller, and a script that runs on and on is put aside while its thread does other work. Replies
//! become Lua values here and back, straight on Lua's stack. It must not know what commands do.
//!
//! SAFETY of the whole file: C functions are called by Lua alone, with a valid state and at least `LUA_MINSTACK` free
//! slots; where more are needed they are asked for. Errors of Lua leave by `lua_error`, which jumps over frames of this
//! file and of Lua only; none of them holds anything that would have to be dropped. [`Io`] is touched by one side at a
//! time: by the script's stack while that runs, by its owner while it does not. The bridge outlives the Lua state: the
//! engine drops its stack and its state first.

#![allow(unsafe_code)]

use super::raw;
use crate::clock;
use crate::number::format_double;
use crate::protocol::{Output, Reply, Span, Version, c_text, parse_i64};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use mlua::ffi::{self, lua_State};
use mlua::{Function, Lua, Result, Value};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::rc::Rc;

type State = *mut lua_State;

/// The script's stack, in bytes: Lua nests calls of C functions 200 deep, some with buffers of 8 KiB.
const STACK: usize = 16 << 20;
/// Instructions between two looks at the clock.
const INSTRUCTIONS: c_int = 20_000;
/// How long a script runs before its thread has a look at other work, in ns.
const SLICE_NS: u64 = 2_000_000;

/// Why the script's stack was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A command is to be run: [`Io::buf`] and [`Io::spans`]. Its reply goes to [`Io::out`].
    Call,
    /// A line is to be logged: [`Io::line`], of level [`Io::number`].
    Log,
    /// May the command in [`Io::buf`] be run? [`Io::number`] is to be 1, 0, or negative where there is no such command.
    May,
    /// It has run for a while.
    Pause,
    /// It is over: [`Io::reply`] is written.
    Over,
}

/// What is to be done on the script's stack.
pub(super) enum Job {
    /// A function that finds its words (those before [`Io::keys`] are keys) as KEYS and ARGV: in this table, or where
    /// there is none as its arguments. Its result is the reply.
    Run(Function, Value),
    /// A library's code, which registers functions; what is wrong with it goes to [`Io::failure`].
    Load(Function),
}

/// What both sides see.
#[derive(Default)]
pub(super) struct Io {
    pub(super) buf: Vec<u8>,
    pub(super) spans: Vec<Span>,
    /// How many of the words that a run begins with are keys.
    pub(super) keys: usize,
    /// RESP version of a command's reply, as `redis.setresp` set it.
    pub(super) version: Version,
    pub(super) out: Output,
    flat: Vec<u8>,
    pub(super) line: Vec<u8>,
    pub(super) number: i64,
    /// The connection's, for the script's own reply.
    pub(super) reply_version: Version,
    pub(super) reply: Output,
    /// The name that errors give: the script's SHA-1, or the function's name.
    pub(super) name: String,
    pub(super) failure: Option<Vec<u8>>,
    /// Once set, the script is to end with this error.
    pub(super) ends: Option<&'static str>,
    slice_ends: u64,
}

/// What the C functions know: a pointer to it is their upvalue, or lies in the registry.
#[derive(Default)]
pub(super) struct Bridge {
    io: UnsafeCell<Io>,
    job: RefCell<Option<Job>>,
    /// Where the script's stack leaves from; null before it began.
    yielder: Cell<*const Yielder<(), Step>>,
}

/// The registry's key of the bridge.
const BRIDGE: &CStr = c"cenote.bridge";

impl Bridge {
    /// The shared part. By the rule above, the other side does not run.
    #[expect(clippy::mut_from_ref, reason = "one side runs at a time, see the file's head")]
    pub(super) fn io(&self) -> &mut Io {
        unsafe { &mut *self.io.get() }
    }

    /// Leaves the script's stack, and comes back when the owner goes on. Only to be called on that stack.
    fn leave(&self, why: Step) {
        let yielder = self.yielder.get();
        if !yielder.is_null() {
            unsafe { (*yielder).suspend(why) }
        }
    }

    /// Has a line logged.
    pub(super) fn log(&self, level: i64, line: &[u8]) {
        let io = self.io();
        io.number = level;
        io.line.clear();
        io.line.extend_from_slice(line);
        self.leave(Step::Log);
    }

    /// Whether a command may be run; None if there is none of that name.
    pub(super) fn may<'a>(&self, words: impl Iterator<Item = &'a [u8]>) -> Option<bool> {
        let io = self.io();
        io.buf.clear();
        io.spans.clear();
        Span::pack(words, &mut io.buf, &mut io.spans);
        self.leave(Step::May);
        (self.io().number >= 0).then_some(self.io().number == 1)
    }

    /// Does what is to be done, on the script's stack.
    fn work(&self, lua: &Lua) {
        let job = self.job.borrow_mut().take();
        let this = ptr::from_ref(self);
        let result: Result<()> = match job {
            Some(Job::Run(function, globals)) => unsafe { lua.exec_raw((function, globals), |state| run(state, this)) },
            Some(Job::Load(function)) => unsafe { lua.exec_raw(function, |state| load(state, this)) },
            None => Ok(()),
        };
        if let Err(error) = result {
            let io = self.io();
            io.reply = Output::new();
            let text = format!("ERR {}", super::engine::message(&error));
            Reply::new(&mut io.reply, io.reply_version).error(&text);
            io.failure = Some(text.into_bytes());
        }
    }
}

/// A stack on which Lua runs.
pub(super) struct Fiber {
    coroutine: Coroutine<(), Step, ()>,
}

impl Fiber {
    /// A stack for this state's work.
    pub(super) fn new(lua: &Lua, bridge: &Rc<Bridge>) -> Result<Self> {
        let pointer = Rc::as_ptr(bridge).cast_mut().cast::<c_void>();
        let _: () = unsafe {
            lua.exec_raw((), |state| {
                ffi::lua_pushlightuserdata(state, pointer);
                ffi::lua_setfield(state, ffi::LUA_REGISTRYINDEX, BRIDGE.as_ptr());
            })
        }?;
        let (lua, bridge) = (lua.clone(), Rc::clone(bridge));
        let coroutine = Coroutine::with_stack(DefaultStack::new(STACK)?, move |yielder, ()| {
            bridge.yielder.set(yielder);
            loop {
                bridge.work(&lua);
                yielder.suspend(Step::Over);
            }
        });
        Ok(Self { coroutine })
    }

    /// Gives it work.
    pub(super) fn begin(&mut self, bridge: &Bridge, job: Job) {
        *bridge.job.borrow_mut() = Some(job);
    }

    /// It may run for another while.
    pub(super) fn extend(&mut self, bridge: &Bridge) {
        bridge.io().slice_ends = clock::monotonic_ns() + SLICE_NS;
    }

    /// Runs until it is left.
    pub(super) fn go_on(&mut self) -> Step {
        match self.coroutine.resume(()) {
            CoroutineResult::Yield(step) => step,
            CoroutineResult::Return(()) => Step::Over,
        }
    }
}

/// `redis.call` (`raises`) and `redis.pcall`.
pub(super) fn caller(lua: &Lua, bridge: &Rc<Bridge>, raises: bool) -> Result<Function> {
    let pointer = Rc::as_ptr(bridge).cast_mut().cast::<c_void>();
    unsafe {
        lua.exec_raw((), |state| {
            ffi::lua_pushlightuserdata(state, pointer);
            ffi::lua_pushboolean(state, raises.into());
            ffi::lua_pushcclosure(state, call, 2);
        })
    }
}

unsafe extern "C-unwind" fn call(state: State) -> c_int {
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)) as *const Bridge;
        let failed = match take_words(state, &mut *(*bridge).io.get()) {
            None => {
                (*bridge).leave(Step::Call);
                push_reply(state, bridge)
            }
            Some(text) => {
                push_error(state, text.as_bytes());
                true
            }
        };
        if failed && ffi::lua_toboolean(state, ffi::lua_upvalueindex(2)) != 0 {
            ffi::lua_error(state)
        }
        1
    }
}

/// Takes the arguments of a command; or why they are none.
unsafe fn take_words(state: State, io: &mut Io) -> Option<&'static str> {
    io.buf.clear();
    io.spans.clear();
    let count = unsafe { ffi::lua_gettop(state) };
    if count == 0 {
        return Some("ERR Please specify at least one argument for this redis lib call");
    }
    for index in 1..=count {
        unsafe {
            match ffi::lua_type(state, index) {
                ffi::LUA_TSTRING => Span::pack(std::iter::once(text_at(state, index)), &mut io.buf, &mut io.spans),
                ffi::LUA_TNUMBER => pack_number(ffi::lua_tonumber(state, index), io),
                _ => return Some("ERR Lua redis lib command arguments must be strings or integers"),
            }
        }
        if io.buf.len() > u32::MAX as usize / 2 {
            return Some("ERR Lua redis lib command arguments are too large");
        }
    }
    None
}

/// A number as an argument of a command.
fn pack_number(number: f64, io: &mut Io) {
    if number.fract() == 0.0 && number.abs() < 9.2e18 {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number as i64).as_bytes();
        return Span::pack(std::iter::once(digits), &mut io.buf, &mut io.spans);
    }
    let finite;
    let text = match number.is_nan() {
        true if number.is_sign_negative() => "-nan",
        true => "nan",
        false => {
            finite = format_double(number);
            &finite
        }
    };
    Span::pack(std::iter::once(text.as_bytes()), &mut io.buf, &mut io.spans);
}

/// The string at an index, which is one; valid while it stays on the stack.
unsafe fn text_at<'a>(state: State, index: c_int) -> &'a [u8] {
    unsafe {
        let mut len = 0;
        let start = ffi::lua_tolstring(state, index, &mut len);
        if start.is_null() { &[] } else { std::slice::from_raw_parts(start.cast(), len) }
    }
}

unsafe fn push_text(state: State, text: &[u8]) {
    unsafe { ffi::lua_pushlstring_(state, text.as_ptr().cast(), text.len()) }
}

/// An error reply as scripts see it.
unsafe fn push_error(state: State, line: &[u8]) {
    unsafe {
        ffi::lua_createtable(state, 0, 2);
        push_text(state, line);
        ffi::lua_setfield(state, -2, c"err".as_ptr());
        // It is counted where it occurred.
        ffi::lua_pushboolean(state, 1);
        ffi::lua_setfield(state, -2, c"ignore_error_stats_update".as_ptr());
    }
}

/// Looks at the clock, now and then; and raises the error of a script that is to end.
unsafe extern "C-unwind" fn look(state: State, _: *mut ffi::lua_Debug) {
    unsafe {
        ffi::lua_getfield_(state, ffi::LUA_REGISTRYINDEX, BRIDGE.as_ptr());
        let bridge = ffi::lua_touserdata(state, -1) as *const Bridge;
        ffi::lua_settop(state, -2);
        if clock::monotonic_ns() >= (*(*bridge).io.get()).slice_ends {
            (*bridge).leave(Step::Pause);
        }
        if let Some(text) = (*(*bridge).io.get()).ends {
            // From here on at each instruction: no `pcall` of the script's saves it.
            ffi::lua_sethook(state, Some(look), ffi::LUA_MASKCOUNT | ffi::LUA_MASKLINE, 1);
            push_error(state, text.as_bytes());
            ffi::lua_error(state)
        }
    }
}

unsafe fn guarded_call(state: State, args: c_int) -> c_int {
    unsafe {
        let handler = ffi::lua_gettop(state) - args;
        ffi::lua_pushcclosure(state, raw::note_place, 0);
        ffi::lua_insert(state, handler);
        ffi::lua_sethook(state, Some(look), ffi::LUA_MASKCOUNT, INSTRUCTIONS);
        let status = ffi::lua_pcall(state, args, 1, handler);
        ffi::lua_sethook(state, None, 0, 0);
        status
    }
}

/// Runs the function at 1, and writes its reply. At 2 is the table for KEYS and ARGV, or nil.
unsafe fn run(state: State, bridge: *const Bridge) {
    unsafe {
        let keys = (*(*bridge).io.get()).keys;
        let count = (*(*bridge).io.get()).spans.len();
        push_words(state, bridge, 0, keys);
        push_words(state, bridge, keys, count);
        let status = if ffi::lua_type(state, 2) == ffi::LUA_TTABLE {
            for name in [c"ARGV", c"KEYS"] {
                ffi::lua_pushstring_(state, name.as_ptr());
                ffi::lua_insert(state, -2);
                ffi::lua_rawset(state, 2);
            }
            ffi::lua_settop(state, 1);
            guarded_call(state, 0)
        } else {
            ffi::lua_remove(state, 2);
            guarded_call(state, 2)
        };
        let io = &mut *(*bridge).io.get();
        let resp3 = io.version == Version::V3;
        let mut reply = Reply::new(&mut io.reply, io.reply_version);
        if status == 0 { write(state, &mut reply, resp3) } else { write_failure(state, &mut reply, &io.name) }
    }
}

/// Runs a library's code at 1.
unsafe fn load(state: State, bridge: *const Bridge) {
    unsafe {
        if guarded_call(state, 0) != 0 {
            let is_table = ffi::lua_type(state, -1) == ffi::LUA_TTABLE;
            let has_text = !is_table || push_field(state, ffi::lua_gettop(state), c"err") == ffi::LUA_TSTRING;
            let text = if has_text { text_at(state, -1) } else { b"unknown error" };
            (*(*bridge).io.get()).failure = Some(text.to_vec());
        }
        ffi::lua_settop(state, 0);
    }
}

unsafe fn push_words(state: State, bridge: *const Bridge, from: usize, to: usize) {
    unsafe {
        let io = &*(*bridge).io.get();
        ffi::lua_createtable(state, (to - from).min(c_int::MAX as usize) as c_int, 0);
        for (index, span) in io.spans[from..to].iter().enumerate() {
            push_text(state, span.of(&io.buf));
            ffi::lua_rawseti_(state, -2, index as c_int + 1);
        }
    }
}

/// Pushes the reply of a command; true if it is an error.
unsafe fn push_reply(state: State, bridge: *const Bridge) -> bool {
    unsafe {
        let io = &mut *(*bridge).io.get();
        if io.out.contiguous().is_none() {
            io.flat.clear();
            io.out.drain_chunks(0).iter().for_each(|chunk| io.flat.extend_from_slice(chunk));
            let mut bytes = io.flat.as_slice();
            let failed = bytes.first() == Some(&b'-');
            push_value(state, &mut bytes);
            io.flat = Vec::new();
            return failed;
        }
        let mut bytes = io.out.contiguous().unwrap_or_default();
        push_value(state, &mut bytes);
        io.out.is_error_since(Output::new().mark())
    }
}

fn line<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let end = memchr::memchr(b'\r', bytes).unwrap_or(bytes.len());
    let line = &bytes[..end];
    *bytes = bytes.get(end + 2..).unwrap_or_default();
    line
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let text = bytes.get(..len).unwrap_or_default();
    *bytes = bytes.get(len + 2..).unwrap_or_default();
    text
}

unsafe fn set_field(state: State, name: &CStr) {
    unsafe {
        ffi::lua_createtable(state, 0, 1);
        ffi::lua_insert(state, -2);
        ffi::lua_setfield(state, -2, name.as_ptr());
    }
}

/// Pushes a value of what Cenote itself has written.
unsafe fn push_value(state: State, bytes: &mut &[u8]) {
    let head = line(bytes);
    let Some((kind, rest)) = head.split_first() else { return unsafe { ffi::lua_pushnil(state) } };
    let number = || parse_i64(rest).unwrap_or_default();
    unsafe {
        ffi::luaL_checkstack(state, 5, c"in a reply".as_ptr());
        match kind {
            b'$' | b'*' if number() < 0 => ffi::lua_pushboolean(state, 0),
            b'$' => push_text(state, take(bytes, number() as usize)),
            b':' => ffi::lua_pushnumber(state, number() as f64),
            b'+' => {
                push_text(state, rest);
                set_field(state, c"ok");
            }
            b'-' => push_error(state, rest),
            b'*' | b'>' => {
                ffi::lua_createtable(state, number().min(1 << 20) as c_int, 0);
                for index in 1..=number() {
                    push_value(state, bytes);
                    ffi::lua_rawseti_(state, -2, index as c_int);
                }
            }
            b'%' | b'~' => {
                ffi::lua_createtable(state, 0, 0);
                for _ in 0..number() {
                    push_value(state, bytes);
                    if *kind == b'%' {
                        push_value(state, bytes)
                    } else {
                        ffi::lua_pushboolean(state, 1)
                    }
                    if ffi::lua_type(state, -2) == ffi::LUA_TNIL {
                        ffi::lua_settop(state, -3);
                    } else {
                        ffi::lua_rawset(state, -3);
                    }
                }
                set_field(state, if *kind == b'%' { c"map" } else { c"set" });
            }
            b'|' => {
                for _ in 0..number() * 2 {
                    push_value(state, bytes);
                    ffi::lua_settop(state, -2);
                }
                push_value(state, bytes);
            }
            b',' => {
                let number = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
                ffi::lua_pushnumber(state, number);
                set_field(state, c"double");
            }
            b'#' => ffi::lua_pushboolean(state, (rest == b"t").into()),
            b'(' => {
                push_text(state, rest);
                set_field(state, c"big_number");
            }
            b'=' => {
                let all = take(bytes, number() as usize);
                ffi::lua_createtable(state, 0, 2);
                push_text(state, all.get(..3).unwrap_or_default());
                ffi::lua_setfield(state, -2, c"format".as_ptr());
                push_text(state, all.get(4..).unwrap_or_default());
                ffi::lua_setfield(state, -2, c"string".as_ptr());
                set_field(state, c"verbatim_string");
            }
            _ => ffi::lua_pushnil(state),
        }
    }
}

/// Pushes a field of the table at an index, without metamethods; returns its type.
unsafe fn push_field(state: State, table: c_int, name: &CStr) -> c_int {
    unsafe {
        ffi::lua_pushstring_(state, name.as_ptr());
        ffi::lua_rawget_(state, table);
        ffi::lua_type(state, -1)
    }
}

/// As C casts a double to an integer: what does not fit is the least one.
fn to_integer(number: f64) -> i64 {
    if number >= i64::MIN as f64 && number < i64::MAX as f64 { number as i64 } else { i64::MIN }
}

/// Writes the value on top of the stack and takes it off. `resp3`: the script speaks RESP3, in which there are booleans.
unsafe fn write(state: State, reply: &mut Reply<'_>, resp3: bool) {
    unsafe {
        match ffi::lua_type(state, -1) {
            ffi::LUA_TSTRING => reply.bulk(text_at(state, -1)),
            ffi::LUA_TNUMBER => reply.integer(to_integer(ffi::lua_tonumber(state, -1))),
            ffi::LUA_TBOOLEAN if resp3 => reply.boolean(ffi::lua_toboolean(state, -1) != 0),
            ffi::LUA_TBOOLEAN if ffi::lua_toboolean(state, -1) != 0 => reply.integer(1),
            ffi::LUA_TTABLE => return write_table(state, reply, resp3),
            _ => reply.null(),
        }
        ffi::lua_settop(state, -2);
    }
}

unsafe fn write_table(state: State, reply: &mut Reply<'_>, resp3: bool) {
    unsafe {
        if ffi::lua_checkstack(state, 6) == 0 {
            reply.error("ERR reached lua stack limit");
            return ffi::lua_settop(state, -2);
        }
        let top = ffi::lua_gettop(state);
        let is = |name, kind| {
            ffi::lua_settop(state, top);
            push_field(state, top, name) == kind
        };
        match () {
            () if is(c"err", ffi::LUA_TSTRING) => reply.error_bytes(c_text(text_at(state, -1))),
            () if is(c"ok", ffi::LUA_TSTRING) => reply.simple_bytes(c_text(text_at(state, -1))),
            () if is(c"double", ffi::LUA_TNUMBER) => reply.double(ffi::lua_tonumber(state, -1)),
            () if is(c"big_number", ffi::LUA_TSTRING) => reply.big_number(text_at(state, -1)),
            () if is(c"verbatim_string", ffi::LUA_TTABLE)
                && push_field(state, top + 1, c"format") == ffi::LUA_TSTRING
                && push_field(state, top + 1, c"string") == ffi::LUA_TSTRING =>
            {
                let format = String::from_utf8_lossy(text_at(state, -2));
                reply.verbatim(&format, text_at(state, -1));
            }
            () if is(c"map", ffi::LUA_TTABLE) => write_pairs(state, reply, resp3, true),
            () if is(c"set", ffi::LUA_TTABLE) => write_pairs(state, reply, resp3, false),
            () => {
                ffi::lua_settop(state, top);
                return write_array(state, reply, resp3);
            }
        }
        ffi::lua_settop(state, top - 1);
    }
}

unsafe fn write_array(state: State, reply: &mut Reply<'_>, resp3: bool) {
    unsafe {
        let mut len = 0;
        loop {
            ffi::lua_rawgeti_(state, -1, len + 1);
            let is_over = ffi::lua_type(state, -1) == ffi::LUA_TNIL;
            ffi::lua_settop(state, -2);
            if is_over {
                break;
            }
            len += 1;
        }
        reply.array(len as usize);
        for index in 1..=len {
            ffi::lua_rawgeti_(state, -1, index);
            write(state, reply, resp3);
        }
        ffi::lua_settop(state, -2);
    }
}

/// The map or the set on top of the stack.
unsafe fn write_pairs(state: State, reply: &mut Reply<'_>, resp3: bool, is_map: bool) {
    unsafe {
        let table = ffi::lua_gettop(state);
        let mut count = 0;
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, table) != 0 {
            ffi::lua_settop(state, -2);
            count += 1;
        }
        if is_map {
            reply.map(count)
        } else {
            reply.set(count)
        }
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, table) != 0 {
            ffi::lua_pushvalue(state, -2);
            write(state, reply, resp3);
            if is_map { write(state, reply, resp3) } else { ffi::lua_settop(state, -2) }
        }
    }
}

/// Writes the error on top of the stack, which no script caught.
unsafe fn write_failure(state: State, reply: &mut Reply<'_>, name: &str) {
    unsafe {
        if ffi::lua_type(state, -1) != ffi::LUA_TTABLE {
            // Lua itself gave up, without asking the handler.
            let text = if ffi::lua_type(state, -1) == ffi::LUA_TSTRING { text_at(state, -1) } else { b"unknown error" };
            return reply.error_bytes(&[b"ERR ", c_text(text), b" script: ", name.as_bytes()].concat());
        }
        let top = ffi::lua_gettop(state);
        let text = match push_field(state, top, c"err") {
            ffi::LUA_TSTRING => c_text(text_at(state, -1)),
            _ => b"ERR unknown error",
        };
        let has_place = push_field(state, top, c"source") == ffi::LUA_TSTRING
            && push_field(state, top, c"line") == ffi::LUA_TNUMBER;
        if !has_place {
            return reply.error_bytes(text);
        }
        let mut digits = itoa::Buffer::new();
        let number = digits.format(ffi::lua_tonumber(state, -1) as i64).as_bytes();
        let source = text_at(state, -2);
        reply.error_bytes(&[text, b" script: ", name.as_bytes(), b", on ", source, b":", number, b"."].concat());
    }
}
