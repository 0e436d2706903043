//! The binary form of COPY, read as it comes: pieces may be cut anywhere.
//!
//! Source: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format". A signature, flags, a header extension; then
//! tuples, each a count of fields and for each field a length (-1 is NULL) and its bytes; at last the count -1. Only that count tells
//! that the rows are all there.

/// What every copy begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;

/// Where a copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Header,
    Rows,
    /// The trailer was seen.
    End,
}

/// Reads one copy.
#[derive(Debug)]
pub(crate) struct CopyForm {
    at: At,
    columns: usize,
    fields: Vec<Field>,
}

/// Where a field lies. Its length comes right before it.
#[derive(Debug, Clone, Copy)]
struct Field {
    start: usize,
    /// `None`: NULL.
    length: Option<usize>,
}

/// Bytes of a field's length.
const LENGTH_BYTES: usize = 4;

/// Why a copy is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault<E> {
    /// It breaks the format; how, in words.
    Form(&'static str),
    /// The row was refused by who takes rows.
    Row(E),
}

/// The fields of one row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    fields: &'a [Field],
}

impl<'a> Fields<'a> {
    /// Field `index`; `None` is NULL, and what is not there.
    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        let field = self.fields.get(index)?;
        self.bytes.get(field.start..field.start + field.length?)
    }

    /// So many fields from `first` on, as they were sent: each behind its length, a big-endian `int4`, -1 for NULL. `None`: there are fewer.
    pub(crate) fn sent(&self, first: usize, count: usize) -> Option<&'a [u8]> {
        let fields = self.fields.get(first..first.checked_add(count)?)?;
        let (Some(first), Some(last)) = (fields.first(), fields.last()) else {
            return Some(&[]);
        };
        self.bytes
            .get(first.start - LENGTH_BYTES..last.start + last.length.unwrap_or(0))
    }

    /// Length of the widest field.
    pub(crate) fn widest(&self) -> usize {
        self.fields.iter().filter_map(|field| field.length).max().unwrap_or(0)
    }
}

impl CopyForm {
    /// A copy with so many columns.
    pub(crate) fn new(columns: usize) -> Self {
        Self {
            at: At::Header,
            columns,
            fields: Vec::with_capacity(columns),
        }
    }

    /// Reads all whole rows at the front of `bytes` and gives how many bytes they took. The rest is to come again, with more behind it.
    ///
    /// # Errors
    /// Also for whatever follows the trailer.
    pub(crate) fn feed<E>(
        &mut self,
        bytes: &[u8],
        mut row: impl FnMut(Fields<'_>) -> Result<(), E>,
    ) -> Result<usize, Fault<E>> {
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            let used = match self.at {
                At::Header => self.header(rest).map_err(Fault::Form)?,
                At::Rows => self.tuple(rest).map_err(Fault::Form)?,
                At::End if rest.is_empty() => None,
                At::End => return Err(Fault::Form("there is more behind its trailer")),
            };
            let Some(used) = used else { return Ok(taken) };
            if used.is_row {
                let fields = Fields {
                    bytes: rest,
                    fields: &self.fields,
                };
                row(fields).map_err(Fault::Row)?;
            }
            taken += used.bytes;
        }
    }

    /// Whether the trailer was seen: what ended before it is no whole copy.
    pub(crate) fn is_whole(&self) -> bool {
        self.at == At::End
    }

    fn header(&mut self, bytes: &[u8]) -> Result<Option<Used>, &'static str> {
        let known = bytes.len().min(SIGNATURE.len());
        if bytes[..known] != SIGNATURE[..known] {
            return Err("it does not begin as a binary copy does");
        }
        let Some((flags, extension)) = bytes.get(SIGNATURE.len()..HEADER_BYTES).and_then(|eight| {
            let (flags, rest) = eight.split_first_chunk::<4>()?;
            Some((
                u32::from_be_bytes(*flags),
                u32::from_be_bytes(*rest.first_chunk::<4>()?),
            ))
        }) else {
            return Ok(None);
        };
        if flags != 0 || extension != 0 {
            return Err("its header has flags that are not known");
        }
        self.at = At::Rows;
        Ok(Some(Used {
            bytes: HEADER_BYTES,
            is_row: false,
        }))
    }

    fn tuple(&mut self, bytes: &[u8]) -> Result<Option<Used>, &'static str> {
        let Some((count, _)) = bytes.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.at = At::End;
            return Ok(Some(Used {
                bytes: 2,
                is_row: false,
            }));
        }
        if usize::try_from(count) != Ok(self.columns) {
            return Err("a row has another number of columns");
        }
        self.fields.clear();
        let mut at = 2;
        for _ in 0..self.columns {
            let length = bytes.get(at..).and_then(<[u8]>::first_chunk::<LENGTH_BYTES>);
            let Some(length) = length else { return Ok(None) };
            at += LENGTH_BYTES;
            let length = i32::from_be_bytes(*length);
            if length == -1 {
                self.fields.push(Field {
                    start: at,
                    length: None,
                });
                continue;
            }
            let length = usize::try_from(length).map_err(|_| "a field has a negative length")?;
            if bytes.len() - at < length {
                return Ok(None);
            }
            self.fields.push(Field {
                start: at,
                length: Some(length),
            });
            at += length;
        }
        Ok(Some(Used {
            bytes: at,
            is_row: true,
        }))
    }
}

/// What one step of reading took.
struct Used {
    bytes: usize,
    is_row: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sent_row;
    use super::*;

    type Rows = Vec<Vec<Option<Vec<u8>>>>;

    fn written(rows: &Rows) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend_from_slice(&[0; 8]);
        for row in rows {
            out.extend_from_slice(&i16::try_from(row.len()).unwrap().to_be_bytes());
            for field in row {
                match field {
                    None => out.extend_from_slice(&(-1i32).to_be_bytes()),
                    Some(bytes) => {
                        out.extend_from_slice(&i32::try_from(bytes.len()).unwrap().to_be_bytes());
                        out.extend_from_slice(bytes);
                    }
                }
            }
        }
        out.extend_from_slice(&(-1i16).to_be_bytes());
        out
    }

    /// What is read of pieces that are given one after the other.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Rows, bool), Fault<()>> {
        let (mut form, mut waiting, mut rows) = (CopyForm::new(3), Vec::new(), Vec::new());
        for piece in pieces {
            waiting.extend_from_slice(piece);
            let taken = form.feed(&waiting, |fields| {
                sent_as_pushed(&fields);
                rows.push((0..3).map(|index| fields.get(index).map(<[u8]>::to_vec)).collect());
                Ok(())
            })?;
            waiting.drain(..taken);
        }
        Ok((rows, form.is_whole() && waiting.is_empty()))
    }

    /// What was sent is what [`sent_row::push`] writes of the values.
    fn sent_as_pushed(fields: &Fields<'_>) {
        for (first, end) in [(0, 3), (1, 3), (0, 2), (1, 1)] {
            let mut pushed = Vec::new();
            (first..end).for_each(|index| sent_row::push(&mut pushed, fields.get(index)));
            assert_eq!(fields.sent(first, end - first), Some(pushed.as_slice()));
        }
        assert_eq!(fields.sent(1, 3), None);
    }

    fn rows() -> impl Strategy<Value = Rows> {
        let field = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
        prop::collection::vec(prop::collection::vec(field, 3), 0..9)
    }

    proptest! {
        #[test]
        fn rows_are_read_alike_wherever_the_pieces_are_cut(rows in rows(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9)) {
            let bytes = written(&rows);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces = at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
            prop_assert_eq!(read(pieces), Ok((rows, true)));
        }

        #[test]
        fn what_is_cut_short_is_never_whole(rows in rows(), cut in any::<prop::sample::Index>()) {
            let bytes = written(&rows);
            let (found, is_whole) = read([&bytes[..cut.index(bytes.len())]]).unwrap();
            prop_assert!(!is_whole && rows.starts_with(&found));
        }

        #[test]
        fn noise_is_no_copy_and_no_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!matches!(read([noise.as_slice()]), Ok((_, true))));
        }
    }

    #[test]
    fn what_follows_the_trailer_is_refused() {
        let mut bytes = written(&vec![]);
        bytes.extend_from_slice(&written(&vec![]));
        assert!(matches!(read([bytes.as_slice()]), Err(Fault::Form(_))));
        assert!(matches!(read([&bytes[..21], &bytes[21..]]), Err(Fault::Form(_))));
    }

    #[test]
    fn a_row_of_another_width_is_refused() {
        let bytes = written(&vec![vec![None, None]]);
        assert!(matches!(read([bytes.as_slice()]), Err(Fault::Form(_))));
    }
}
