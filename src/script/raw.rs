//! The few functions that Lua must call without Rust between them: those that raise an error of any value, as if they
//! were Lua's own, those that keep read-only tables read-only, and those that bound what Lua's own leave unbounded. It
//! knows nothing of what the functions do.
//!
//! SAFETY of the whole file: each function is called by Lua alone, with a valid state and at least
//! `LUA_MINSTACK` free slots, and pushes fewer. Errors leave by `lua_error`, which jumps over frames of this file only;
//! none of them holds anything that would have to be dropped.

#![allow(unsafe_code)]

use mlua::ffi;
use mlua::{Function, Lua, Result};
use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;

type State = *mut ffi::lua_State;

/// The field of a metatable that says: its table is read-only, and `__index` has what it shows.
const READ_ONLY: &CStr = c"__readonly";
const REFUSAL: &CStr = c"Attempt to modify a readonly table";
/// Bytes of a pattern, at most: Lua matches by calling itself, about once a byte.
const PATTERN_MAX: usize = 8192;
/// Bytes from which on a repeated string is made here, and bytes that it may have.
const REPEAT_LARGE: f64 = 65_536.0;
const REPEAT_MAX: f64 = 536_870_912.0;

/// A function of one that answers with `true` and results, or with `false` and the error to raise. A text gets the
/// place of the call in front, as luaL_error would put it; with a number behind it, it is about that argument.
pub(super) fn raising(lua: &Lua, inner: Function) -> Result<Function> {
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, raise, 1)) }
}

/// One of Lua's own C functions, for tables that are not read-only.
pub(super) fn guarded(lua: &Lua, inner: Function) -> Result<Function> {
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, guard, 1)) }
}

/// One of Lua's own C functions, whose first argument may be a read-only table: it gets what that shows.
pub(super) fn seeing_through(lua: &Lua, inner: Function) -> Result<Function> {
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, see_through, 1)) }
}

/// `string.rep`: refuses at once what no memory would hold, and makes what is large by copying, not byte by byte.
pub(super) fn repeating(lua: &Lua, inner: Function) -> Result<Function> {
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, repeat, 1)) }
}

/// One of Lua's own C functions, whose second argument is a pattern.
pub(super) fn matching(lua: &Lua, inner: Function) -> Result<Function> {
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, match_short, 1)) }
}

/// `pairs` and `next` that look through read-only tables.
pub(super) fn iterators(lua: &Lua) -> Result<(Function, Function)> {
    let next: Function = unsafe { lua.exec_raw((), |state| ffi::lua_pushcclosure(state, next_through, 0)) }?;
    let pairs = unsafe { lua.exec_raw(&next, |state| ffi::lua_pushcclosure(state, pairs_through, 1)) }?;
    Ok((pairs, next))
}

unsafe extern "C-unwind" fn raise(state: State) -> c_int {
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, ffi::lua_gettop(state) - 1, ffi::LUA_MULTRET);
        if ffi::lua_toboolean(state, 1) != 0 {
            return ffi::lua_gettop(state) - 1;
        }
        if ffi::lua_gettop(state) == 3 {
            let arg = ffi::lua_tonumber(state, 3) as c_int;
            return ffi::luaL_argerror(state, arg, ffi::lua_tostring(state, 2));
        }
        if ffi::lua_type(state, 2) == ffi::LUA_TSTRING {
            ffi::luaL_where(state, 1);
            ffi::lua_insert(state, 2);
            ffi::lua_concat(state, 2);
        }
        ffi::lua_error(state)
    }
}

/// Runs the C function that is wrapped, in the wrapper's own frame: so its errors name it as Lua's own would.
unsafe fn run_wrapped(state: State) -> c_int {
    unsafe {
        match ffi::lua_tocfunction(state, ffi::lua_upvalueindex(1)) {
            Some(wrapped) => wrapped(state),
            None => 0,
        }
    }
}

/// Puts the metatable of the first argument on the stack if that is a read-only table.
unsafe fn is_read_only(state: State) -> bool {
    unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE || ffi::lua_getmetatable(state, 1) == 0 {
            return false;
        }
        ffi::lua_pushstring(state, READ_ONLY.as_ptr());
        ffi::lua_rawget(state, -2);
        let is = ffi::lua_toboolean(state, -1) != 0;
        ffi::lua_pop(state, if is { 1 } else { 2 });
        is
    }
}

/// Puts what a read-only table shows in its place.
unsafe fn look_through(state: State) {
    unsafe {
        let top = ffi::lua_gettop(state);
        if is_read_only(state) {
            ffi::lua_pushstring(state, c"__index".as_ptr());
            ffi::lua_rawget(state, -2);
            if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
                ffi::lua_replace(state, 1);
            }
            ffi::lua_settop(state, top);
        }
    }
}

unsafe extern "C-unwind" fn guard(state: State) -> c_int {
    unsafe {
        if is_read_only(state) {
            ffi::lua_pushstring(state, REFUSAL.as_ptr());
            ffi::lua_error(state);
        }
        run_wrapped(state)
    }
}

unsafe extern "C-unwind" fn see_through(state: State) -> c_int {
    unsafe {
        look_through(state);
        run_wrapped(state)
    }
}

unsafe extern "C-unwind" fn match_short(state: State) -> c_int {
    unsafe {
        if ffi::lua_type(state, 2) == ffi::LUA_TSTRING && ffi::lua_objlen(state, 2) > PATTERN_MAX {
            let is_plain = ffi::lua_toboolean(state, 4) != 0;
            if !is_plain {
                return ffi::luaL_error(state, c"pattern too complex".as_ptr());
            }
        }
        run_wrapped(state)
    }
}

unsafe extern "C-unwind" fn repeat(state: State) -> c_int {
    unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TSTRING || ffi::lua_type(state, 2) != ffi::LUA_TNUMBER {
            return run_wrapped(state);
        }
        // As Lua's `int`, which wraps around.
        let (mut len, times) = (0, ffi::lua_tonumber(state, 2) as i64 as i32);
        let text = ffi::lua_tolstring(state, 1, &mut len);
        let total = len as f64 * f64::from(times);
        if total < REPEAT_LARGE || times < 2 {
            return run_wrapped(state);
        }
        if total > REPEAT_MAX {
            ffi::lua_pushstring(state, c"not enough memory".as_ptr());
            ffi::lua_error(state);
        }
        let total = len * times as usize;
        let scratch: *mut c_char = ffi::lua_newuserdata(state, total).cast();
        scratch.copy_from_nonoverlapping(text, len);
        let mut done = len;
        while done < total {
            let next = done.min(total - done);
            scratch.add(done).copy_from_nonoverlapping(scratch, next);
            done += next;
        }
        ffi::lua_pushlstring(state, scratch, total);
        1
    }
}

unsafe extern "C-unwind" fn next_through(state: State) -> c_int {
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::lua_settop(state, 2);
        look_through(state);
        if ffi::lua_next(state, 1) != 0 {
            return 2;
        }
        ffi::lua_pushnil(state);
        1
    }
}

unsafe extern "C-unwind" fn pairs_through(state: State) -> c_int {
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushnil(state);
        3
    }
}

/// Called with an error before the stack is unwound: makes a table of it, and notes where it was raised.
pub(super) unsafe extern "C-unwind" fn note_place(state: State) -> c_int {
    unsafe {
        ffi::lua_settop(state, 1);
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            ffi::lua_createtable(state, 0, 3);
            ffi::lua_pushstring(state, c"ERR ".as_ptr());
            push_text(state);
            ffi::lua_concat(state, 2);
            ffi::lua_setfield(state, 2, c"err".as_ptr());
            ffi::lua_replace(state, 1);
        }
        let mut place = MaybeUninit::<ffi::lua_Debug>::zeroed();
        let mut found = false;
        for level in 1..=2 {
            found = ffi::lua_getstack(state, level, place.as_mut_ptr()) != 0
                && ffi::lua_getinfo(state, c"Sl".as_ptr(), place.as_mut_ptr()) != 0;
            if !found || CStr::from_ptr((*place.as_ptr()).what) != c"C" {
                break;
            }
        }
        if found {
            let place = place.assume_init_ref();
            ffi::lua_pushstring(state, c"source".as_ptr());
            ffi::lua_pushstring(state, place.source);
            ffi::lua_rawset(state, 1);
            ffi::lua_pushstring(state, c"line".as_ptr());
            ffi::lua_pushnumber(state, f64::from(place.currentline));
            ffi::lua_rawset(state, 1);
        }
        1
    }
}

/// Pushes the first argument as text.
unsafe fn push_text(state: State) {
    unsafe {
        match ffi::lua_type(state, 1) {
            ffi::LUA_TSTRING | ffi::LUA_TNUMBER => {
                ffi::lua_pushvalue(state, 1);
                ffi::lua_tolstring(state, -1, std::ptr::null_mut());
            }
            ffi::LUA_TNIL => {
                ffi::lua_pushstring(state, c"nil".as_ptr());
            }
            ffi::LUA_TBOOLEAN => {
                let text = if ffi::lua_toboolean(state, 1) != 0 { c"true" } else { c"false" };
                ffi::lua_pushstring(state, text.as_ptr());
            }
            _ => {
                ffi::lua_pushstring(state, c"unknown error".as_ptr());
            }
        }
    }
}
