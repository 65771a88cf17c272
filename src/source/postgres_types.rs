//! Postgres's types as the driver names them, mapped to how their values are read (`value`) and how captured text
//! becomes a parameter of them (`param`).

use super::param::{Encoded, ParamKind};
use super::value::Form;
use bytes::{BufMut, BytesMut};
use std::error::Error;
use std::fmt;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

/// How a column of this type is read in binary; `None` if it must be cast to text.
pub(super) fn form(ty: &Type) -> Option<Form> {
    let simple = match *ty {
        Type::BOOL => Form::Bool,
        Type::INT2 => Form::Int2,
        Type::INT4 => Form::Int4,
        Type::INT8 => Form::Int8,
        Type::OID => Form::Oid,
        Type::FLOAT4 => Form::Float4,
        Type::FLOAT8 => Form::Float8,
        Type::NUMERIC => Form::Numeric,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => Form::Text,
        Type::CHAR => Form::Char,
        Type::JSON => Form::Json,
        Type::JSONB => Form::Jsonb,
        Type::UUID => Form::Uuid,
        Type::BYTEA => Form::Bytea,
        Type::DATE => Form::Date,
        Type::TIME => Form::Time,
        Type::TIMETZ => Form::TimeTz,
        Type::TIMESTAMP => Form::Timestamp,
        Type::TIMESTAMPTZ => Form::TimestampTz,
        Type::INTERVAL => Form::Interval,
        Type::INET | Type::CIDR => Form::Inet,
        Type::MACADDR | Type::MACADDR8 => Form::Mac,
        _ => return nested_form(ty),
    };
    Some(simple)
}

fn nested_form(ty: &Type) -> Option<Form> {
    match ty.kind() {
        Kind::Enum(_) => Some(Form::Text),
        Kind::Domain(base) => form(base),
        Kind::Array(element) => Some(Form::Array(Box::new(form(element)?))),
        _ => None,
    }
}

/// What a column without a form of its own is cast to. A list stays a list.
pub(super) fn text_cast(ty: &Type) -> &'static str {
    match ty.kind() {
        Kind::Array(_) => "text[]",
        Kind::Domain(base) => text_cast(base),
        _ => "text",
    }
}

/// How captured text becomes a parameter of this type; `None` where one value has several texts that cannot be told
/// apart, or the type is not known to us.
pub(super) fn param_kind(ty: &Type) -> Option<ParamKind> {
    let kind = match *ty {
        Type::INT2 => ParamKind::Int2,
        Type::INT4 => ParamKind::Int4,
        Type::INT8 => ParamKind::Int8,
        Type::OID => ParamKind::Oid,
        Type::BOOL => ParamKind::Bool,
        Type::UUID => ParamKind::Uuid,
        Type::DATE => ParamKind::Date,
        Type::NUMERIC => ParamKind::Numeric,
        Type::TEXT | Type::VARCHAR | Type::UNKNOWN => ParamKind::Text,
        Type::BPCHAR => ParamKind::Padded,
        Type::NAME => ParamKind::Name,
        Type::FLOAT4 | Type::FLOAT8 => ParamKind::Float,
        Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME | Type::BYTEA | Type::INET | Type::CIDR => ParamKind::Checked,
        Type::MACADDR | Type::MACADDR8 | Type::BIT | Type::VARBIT | Type::CHAR | Type::PG_LSN => ParamKind::Checked,
        _ => match ty.kind() {
            Kind::Enum(_) => ParamKind::Checked,
            Kind::Domain(base) => ParamKind::Domain(Box::new(param_kind(base)?)),
            Kind::Simple if ty.name() == "citext" => ParamKind::CheckedLower,
            _ => return None,
        },
    };
    Some(kind)
}

/// A parameter on its way to the driver. Its value is never shown.
pub(super) struct Bound<'a>(pub(super) &'a Encoded);

impl fmt::Debug for Bound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl ToSql for Bound<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Encoded::Binary { bytes, len } => out.put_slice(&bytes[..*len]),
            Encoded::Text(text) => out.put_slice(text.as_bytes()),
        }
        Ok(IsNull::No)
    }

    /// The kind was chosen for the statement's own type.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self.0 {
            Encoded::Binary { .. } => Format::Binary,
            Encoded::Text(_) => Format::Text,
        }
    }

    to_sql_checked!();
}

/// A column's bytes as they came.
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Raw<'a>, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
