//! The few functions that Lua must call without Rust between them: those that raise an error of any value, as if they
//! were Lua's own, and those that keep read-only tables read-only. The only unsafe code about Lua; it knows nothing of
//! what the functions do.
//!
//! SAFETY of the whole file: each function is called by Lua alone, with a valid state and at least
//! `LUA_MINSTACK` free slots, and pushes fewer. Errors leave by `lua_error`, which jumps over frames of this file only;
//! none of them holds anything that would have to be dropped.

#![allow(unsafe_code)]

use mlua::ffi;
use mlua::{Function, Lua, Result, Table};
use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;

type State = *mut ffi::lua_State;

/// The field of a metatable that says: its table is read-only, and `__index` has what it shows.
const READ_ONLY: &CStr = c"__readonly";
const REFUSAL: &CStr = c"Attempt to modify a readonly table";

/// A function of one that answers with `true` and results, or with `false` and the error to raise. A text gets the
/// place of the call in front, as luaL_error would put it.
pub(super) fn raising(lua: &Lua, inner: Function) -> Result<Function> {
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, raise, 1)) }
}

/// The same of the function that stands first in `slot` when it is called; it gets `flag` as its first argument.
pub(super) fn raising_slot(lua: &Lua, slot: &Table, flag: bool) -> Result<Function> {
    unsafe { lua.exec_raw((slot, flag), |state| ffi::lua_pushcclosure(state, raise_slot, 2)) }
}

/// `inner` for tables that are not read-only.
pub(super) fn guarded(lua: &Lua, inner: Function) -> Result<Function> {
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, guard, 1)) }
}

/// `pairs` and `next` that look through read-only tables.
pub(super) fn iterators(lua: &Lua) -> Result<(Function, Function)> {
    let next: Function = unsafe { lua.exec_raw((), |state| ffi::lua_pushcclosure(state, next_through, 0)) }?;
    let pairs = unsafe { lua.exec_raw(&next, |state| ffi::lua_pushcclosure(state, pairs_through, 1)) }?;
    Ok((pairs, next))
}

/// The function that is to be called with an error before the stack is unwound: it makes a table of it, and notes where
/// it was raised.
pub(super) fn handler(lua: &Lua) -> Result<Function> {
    unsafe { lua.exec_raw((), |state| ffi::lua_pushcclosure(state, note_place, 0)) }
}

unsafe extern "C-unwind" fn raise(state: State) -> c_int {
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        call_and_raise(state)
    }
}

unsafe extern "C-unwind" fn raise_slot(state: State) -> c_int {
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_insert(state, 1);
        ffi::lua_rawgeti(state, ffi::lua_upvalueindex(1), 1);
        ffi::lua_insert(state, 1);
        call_and_raise(state)
    }
}

/// Calls the function at the bottom of the stack with what is above it.
unsafe fn call_and_raise(state: State) -> c_int {
    unsafe {
        ffi::lua_call(state, ffi::lua_gettop(state) - 1, ffi::LUA_MULTRET);
        if ffi::lua_toboolean(state, 1) != 0 {
            return ffi::lua_gettop(state) - 1;
        }
        ffi::lua_settop(state, 2);
        if ffi::lua_type(state, 2) == ffi::LUA_TSTRING {
            ffi::luaL_where(state, 1);
            ffi::lua_insert(state, 2);
            ffi::lua_concat(state, 2);
        }
        ffi::lua_error(state)
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

unsafe extern "C-unwind" fn guard(state: State) -> c_int {
    unsafe {
        if is_read_only(state) {
            ffi::lua_pushstring(state, REFUSAL.as_ptr());
            ffi::lua_error(state);
        }
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, ffi::lua_gettop(state) - 1, ffi::LUA_MULTRET);
        ffi::lua_gettop(state)
    }
}

unsafe extern "C-unwind" fn next_through(state: State) -> c_int {
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::lua_settop(state, 2);
        if is_read_only(state) {
            ffi::lua_pushstring(state, c"__index".as_ptr());
            ffi::lua_rawget(state, -2);
            if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
                ffi::lua_replace(state, 1);
            }
            ffi::lua_settop(state, 2);
        }
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

unsafe extern "C-unwind" fn note_place(state: State) -> c_int {
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
