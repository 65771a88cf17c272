//! The library `bit`: numbers as 32 bits. It knows numbers only.

use super::sandbox::{Faulty, function, number};
use mlua::{Lua, MultiValue, Result, Table, Value};

/// A number's lowest 32 bits, as the nearest integer.
fn to_bits(number: f64) -> u32 {
    (number + 6_755_399_441_055_744.0).to_bits() as u32
}

fn arg(lua: &Lua, args: &MultiValue, index: usize) -> Result<Faulty<u32>> {
    Ok(number(lua, args, index + 1)?.map(to_bits))
}

fn answer(bits: u32) -> Value {
    Value::Number(f64::from(bits as i32))
}

/// The table.
pub(super) fn table(lua: &Lua) -> Result<Table> {
    type One = fn(u32) -> u32;
    type Two = fn(u32, u32) -> u32;
    let bit = lua.create_table()?;
    for (name, f) in [("tobit", (|a| a) as One), ("bnot", |a| !a), ("bswap", u32::swap_bytes)] {
        let run = function(lua, move |lua, args| Ok(arg(lua, &args, 0)?.map(|a| answer(f(a)))))?;
        bit.raw_set(name, run)?;
    }
    for (name, f) in [("band", (|a, b| a & b) as Two), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)] {
        let run = function(lua, move |lua, args| {
            let mut sum = match arg(lua, &args, 0)? {
                Ok(first) => first,
                Err(text) => return Ok(Err(text)),
            };
            for index in 1..args.len() {
                match arg(lua, &args, index)? {
                    Ok(next) => sum = f(sum, next),
                    Err(text) => return Ok(Err(text)),
                }
            }
            Ok(Ok(answer(sum)))
        })?;
        bit.raw_set(name, run)?;
    }
    let shifts = [
        ("lshift", (|a, n| a << (n & 31)) as Two),
        ("rshift", |a, n| a >> (n & 31)),
        ("arshift", |a, n| (a as i32 >> (n & 31)) as u32),
        ("rol", |a, n| a.rotate_left(n & 31)),
        ("ror", |a, n| a.rotate_right(n & 31)),
    ];
    for (name, f) in shifts {
        let run = function(lua, move |lua, args| {
            let (a, n) = (arg(lua, &args, 0)?, arg(lua, &args, 1)?);
            Ok(a.and_then(|a| n.map(|n| answer(f(a, n)))))
        })?;
        bit.raw_set(name, run)?;
    }
    let to_hex = function(lua, |lua, args| {
        let bits = match arg(lua, &args, 0)? {
            Ok(bits) => bits,
            Err(text) => return Ok(Err(text)),
        };
        let digits = if args.len() > 1 { arg(lua, &args, 1)? } else { Ok(8) };
        let digits = match digits {
            Ok(digits) => digits as i32,
            Err(text) => return Ok(Err(text)),
        };
        let all = if digits < 0 { format!("{bits:08X}") } else { format!("{bits:08x}") };
        let shown = digits.unsigned_abs().min(8) as usize;
        Ok(Ok(Value::String(lua.create_string(&all[8 - shown..])?)))
    })?;
    bit.raw_set("tohex", to_hex)?;
    Ok(bit)
}
