//! Reads pgoutput, the form in which a server tells the changes of its rows (protocol version 1, text values).
//!
//! A message is read in place: names and values are slices of it, and nothing is allocated that the message does not
//! hold. Whatever the bytes are, the outcome is a message or a fault. Knows no tables, routes or sockets.

/// One message. Transactions come whole and in the order of their commits: a Begin, changes, a Commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A transaction's first message: it ended at `final_lsn`, was committed at `committed_us` (microseconds since
    /// 2000), and has this id.
    Begin { final_lsn: u64, committed_us: i64, xid: u32 },
    /// Its last one; the stream goes on at `end_lsn`.
    Commit { end_lsn: u64 },
    /// What a table looks like from now on.
    Relation(Relation<'a>),
    /// A row was added.
    Insert { table: u32, new: Tuple<'a> },
    /// A row was changed. `old` comes only where the identity's columns changed, or all of it is the identity.
    Update { table: u32, old: Option<Old<'a>>, new: Tuple<'a> },
    /// A row was removed.
    Delete { table: u32, old: Old<'a> },
    /// Tables were emptied: their ids, four bytes each.
    Truncate { tables: Tables<'a> },
    /// Types, origins, messages: nothing that changes a row.
    Other,
}

/// A table's name and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relation<'a> {
    pub(super) table: u32,
    pub(super) schema: &'a [u8],
    pub(super) name: &'a [u8],
    /// `d`, `n`, `f` or `i`, as in `pg_class.relreplident`.
    pub(super) identity: u8,
    columns: u16,
    rest: &'a [u8],
}

/// One column of a [`Relation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column<'a> {
    pub(super) name: &'a [u8],
    pub(super) type_id: u32,
}

/// What was sent of a row before its change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Old<'a> {
    /// The identity's columns; the others look like NULL.
    Key(Tuple<'a>),
    /// All columns.
    Full(Tuple<'a>),
}

/// The values of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple<'a> {
    columns: u16,
    rest: &'a [u8],
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Null,
    /// A large value that did not change and was not sent.
    Unchanged,
    Text(&'a [u8]),
}

/// The tables of a Truncate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tables<'a>(&'a [u8]);

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Relation<'a> {
    pub(super) fn columns(&self) -> impl Iterator<Item = Column<'a>> {
        let mut reader = Reader(self.rest);
        // Checked when the message was read.
        (0..self.columns).map_while(move |_| reader.column().ok())
    }
}

impl<'a> Tuple<'a> {
    pub(super) fn fields(&self) -> impl Iterator<Item = Field<'a>> {
        let mut reader = Reader(self.rest);
        (0..self.columns).map_while(move |_| reader.field().ok())
    }
}

impl<'a> Old<'a> {
    pub(super) fn tuple(&self) -> Tuple<'a> {
        match self {
            Old::Key(tuple) | Old::Full(tuple) => *tuple,
        }
    }
}

impl Tables<'_> {
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.chunks_exact(4).map(|id| u32::from_be_bytes([id[0], id[1], id[2], id[3]]))
    }
}

/// Reads one message, which must be all of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut reader = Reader(bytes);
    let message = match reader.u8()? {
        b'B' => Message::Begin { final_lsn: reader.u64()?, committed_us: reader.u64()? as i64, xid: reader.u32()? },
        b'C' => {
            reader.take(1 + 8)?;
            let end_lsn = reader.u64()?;
            reader.take(8)?;
            Message::Commit { end_lsn }
        }
        b'R' => Message::Relation(reader.relation()?),
        b'I' => {
            let table = reader.u32()?;
            if reader.u8()? != b'N' {
                return Err(Malformed);
            }
            Message::Insert { table, new: reader.tuple()? }
        }
        b'U' => {
            let table = reader.u32()?;
            let (old, kind) = match reader.u8()? {
                kind @ (b'K' | b'O') => (Some(reader.old(kind)?), reader.u8()?),
                kind => (None, kind),
            };
            if kind != b'N' {
                return Err(Malformed);
            }
            Message::Update { table, old, new: reader.tuple()? }
        }
        b'D' => {
            let (table, kind) = (reader.u32()?, reader.u8()?);
            Message::Delete { table, old: reader.old(kind)? }
        }
        b'T' => {
            let count = reader.u32()? as usize;
            reader.take(1)?;
            Message::Truncate { tables: Tables(reader.take(count.checked_mul(4).ok_or(Malformed)?)?) }
        }
        b'Y' | b'O' | b'M' => return Ok(Message::Other),
        _ => return Err(Malformed),
    };
    if reader.0.is_empty() { Ok(message) } else { Err(Malformed) }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Bytes up to a zero.
    fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let length = memchr::memchr(0, self.0).ok_or(Malformed)?;
        let text = self.take(length)?;
        self.take(1)?;
        Ok(text)
    }

    fn relation(&mut self) -> Result<Relation<'a>, Malformed> {
        let (table, schema, name, identity) = (self.u32()?, self.text()?, self.text()?, self.u8()?);
        let columns = self.u16()?;
        let rest = self.0;
        for _ in 0..columns {
            self.column()?;
        }
        Ok(Relation { table, schema, name, identity, columns, rest })
    }

    /// Flags, name, type, type modifier.
    fn column(&mut self) -> Result<Column<'a>, Malformed> {
        self.take(1)?;
        let (name, type_id) = (self.text()?, self.u32()?);
        self.take(4)?;
        Ok(Column { name, type_id })
    }

    fn old(&mut self, kind: u8) -> Result<Old<'a>, Malformed> {
        match kind {
            b'K' => Ok(Old::Key(self.tuple()?)),
            b'O' => Ok(Old::Full(self.tuple()?)),
            _ => Err(Malformed),
        }
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Malformed> {
        let columns = self.u16()?;
        let rest = self.0;
        for _ in 0..columns {
            self.field()?;
        }
        Ok(Tuple { columns, rest })
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        match self.u8()? {
            b'n' => Ok(Field::Null),
            b'u' => Ok(Field::Unchanged),
            b't' => {
                let length = self.u32()?;
                Ok(Field::Text(self.take(length as usize)?))
            }
            // `b`, binary, was not asked for.
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tuple(fields: &[Field<'_>]) -> Vec<u8> {
        let mut bytes = (fields.len() as u16).to_be_bytes().to_vec();
        for field in fields {
            match field {
                Field::Null => bytes.push(b'n'),
                Field::Unchanged => bytes.push(b'u'),
                Field::Text(text) => {
                    bytes.push(b't');
                    bytes.extend((text.len() as u32).to_be_bytes());
                    bytes.extend(*text);
                }
            }
        }
        bytes
    }

    fn message(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    const TABLE: [u8; 4] = 7u32.to_be_bytes();

    #[test]
    fn reads_every_kind() {
        let begin = message(&[b"B", &9u64.to_be_bytes(), &5u64.to_be_bytes(), &728u32.to_be_bytes()]);
        assert_eq!(read(&begin), Ok(Message::Begin { final_lsn: 9, committed_us: 5, xid: 728 }));
        let commit = message(&[b"C\0", &9u64.to_be_bytes(), &10u64.to_be_bytes(), &5u64.to_be_bytes()]);
        assert_eq!(read(&commit), Ok(Message::Commit { end_lsn: 10 }));
        let relation = message(&[b"R", &TABLE, b"public\0users\0d\0\x01\x01id\0\0\0\0\x17\xff\xff\xff\xff"]);
        let Ok(Message::Relation(relation)) = read(&relation) else { panic!("{relation:?}") };
        assert_eq!((relation.table, relation.schema, relation.name), (7, &b"public"[..], &b"users"[..]));
        assert_eq!(relation.columns().collect::<Vec<_>>(), [Column { name: b"id", type_id: 23 }]);
        let row = tuple(&[Field::Text(b"7"), Field::Null, Field::Unchanged]);
        let insert = message(&[b"I", &TABLE, b"N", &row]);
        let Ok(Message::Insert { table: 7, new }) = read(&insert) else { panic!() };
        assert_eq!(new.fields().collect::<Vec<_>>(), [Field::Text(b"7"), Field::Null, Field::Unchanged]);
        let update = message(&[b"U", &TABLE, b"N", &row]);
        assert!(matches!(read(&update), Ok(Message::Update { table: 7, old: None, .. })));
        let update = message(&[b"U", &TABLE, b"K", &row, b"N", &row]);
        assert!(matches!(read(&update), Ok(Message::Update { old: Some(Old::Key(_)), .. })));
        let delete = message(&[b"D", &TABLE, b"O", &row]);
        let Ok(Message::Delete { old, .. }) = read(&delete) else { panic!() };
        assert_eq!(old.tuple().fields().count(), 3);
        let truncate = message(&[b"T", &2u32.to_be_bytes(), b"\0", &TABLE, &8u32.to_be_bytes()]);
        let Ok(Message::Truncate { tables }) = read(&truncate) else { panic!() };
        assert_eq!(tables.ids().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(read(b"Y..."), Ok(Message::Other));
    }

    #[test]
    fn refuses_what_is_cut_or_too_long_or_claims_too_much() {
        let row = tuple(&[Field::Text(b"7")]);
        let whole = message(&[b"U", &TABLE, b"K", &row, b"N", &row]);
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), Err(Malformed), "{length}");
        }
        assert_eq!(read(&message(&[&whole, b"x"])), Err(Malformed));
        assert_eq!(read(&message(&[b"T", &u32::MAX.to_be_bytes(), b"\0"])), Err(Malformed));
        assert_eq!(read(&message(&[b"I", &TABLE, b"N", b"\xff\xff"])), Err(Malformed));
        assert_eq!(read(&message(&[b"I", &TABLE, b"N", b"\0\x01t\xff\xff\xff\xff"])), Err(Malformed));
    }

    proptest! {
        #[test]
        fn never_panics_and_gives_what_it_counted(bytes in proptest::collection::vec(any::<u8>(), 0..64), kind in 0usize..10) {
            let mut bytes = bytes;
            bytes.insert(0, b"BCRIUDTYOM"[kind]);
            match read(&bytes) {
                Ok(Message::Insert { new, .. }) => prop_assert_eq!(new.fields().count(), usize::from(new.columns)),
                Ok(Message::Relation(relation)) => {
                    prop_assert_eq!(relation.columns().count(), usize::from(relation.columns));
                }
                _ => {}
            }
        }
    }
}
