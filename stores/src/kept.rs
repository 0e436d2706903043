//! A part that was read once, with the digests of its rows at hand.

use crate::{ChunkDigest, Key, KeyValue, RowDigest};

/// What [`crate::Ranged::read`] gives: one look at a part.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Count and digest of the whole part, also when its rows did not fit.
    pub digest: ChunkDigest,
    /// Key and digest of every row that the digest counts; `None`: they were not asked for, did not fit, or this store does not keep them.
    pub rows: Option<KeptRows>,
}

/// Keys and digests of rows, packed: some thirty bytes a row, in blocks of so many rows that are not moved when more come.
#[derive(Clone, Default)]
pub struct KeptRows {
    /// All but the last are full.
    blocks: Vec<Block>,
    /// Of all of them.
    key_bytes: usize,
}

/// Rows of a block: small enough that what one chunk gives back, the next one takes again.
const BLOCK_ROWS: usize = 1_024;

#[derive(Clone)]
struct Block {
    digests: Vec<RowDigest>,
    /// Where the packed key of each row ends in `keys`.
    ends: Vec<u32>,
    keys: Vec<u8>,
}

/// One value of a key, borrowed from where it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart<'a> {
    /// As [`KeyValue::Int`].
    Int(i64),
    /// As [`KeyValue::Text`].
    Text(&'a str),
    /// As [`KeyValue::Bytes`].
    Bytes(&'a [u8]),
}

impl<'a> From<&'a KeyValue> for KeyPart<'a> {
    fn from(value: &'a KeyValue) -> Self {
        match value {
            KeyValue::Int(value) => Self::Int(*value),
            KeyValue::Text(value) => Self::Text(value),
            KeyValue::Bytes(value) => Self::Bytes(value),
        }
    }
}

/// First byte of a packed value; behind it eight bytes, or a length of four bytes and so many.
mod tag {
    pub(super) const INT: u8 = 1;
    pub(super) const TEXT: u8 = 2;
    pub(super) const BYTES: u8 = 3;
}

/// How many there are. Keys are data, and no log is to hold them.
impl std::fmt::Debug for KeptRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptRows")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl KeptRows {
    /// Adds a row. `false`: it does not fit any more, and was not added; no block holds more than 4 GB of keys.
    #[must_use]
    pub fn push(&mut self, key: &[KeyPart<'_>], digest: RowDigest) -> bool {
        self.push_packed(digest, |packed| key.iter().all(|value| pack(*value, packed)))
    }

    /// Adds all rows of `more` behind these. `false`: they do not fit, and not all were added.
    #[must_use]
    pub fn append(&mut self, more: &Self) -> bool {
        (0..more.len()).all(|index| {
            let row = more.packed_key(index).zip(more.digest(index));
            row.is_some_and(|(key, digest)| {
                self.push_packed(digest, |packed| {
                    packed.extend_from_slice(key);
                    true
                })
            })
        })
    }

    fn push_packed(&mut self, digest: RowDigest, pack: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        if self.blocks.last().is_none_or(|last| last.digests.len() == BLOCK_ROWS) {
            // Keys of one table are about as long as each other.
            let key_bytes = self.blocks.last().map_or(0, |last| last.keys.len());
            self.blocks.push(Block::new(key_bytes));
        }
        let Some(block) = self.blocks.last_mut() else {
            return false;
        };
        let begun = block.keys.len();
        let end = if pack(&mut block.keys) {
            u32::try_from(block.keys.len()).ok()
        } else {
            None
        };
        let Some(end) = end else {
            block.keys.truncate(begun);
            return false;
        };
        self.key_bytes += block.keys.len() - begun;
        block.ends.push(end);
        block.digests.push(digest);
        true
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        let full = self.blocks.len().saturating_sub(1);
        full * BLOCK_ROWS + self.blocks.last().map_or(0, |last| last.digests.len())
    }

    /// No row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they take in memory.
    pub fn bytes(&self) -> usize {
        self.len() * (size_of::<RowDigest>() + size_of::<u32>()) + self.key_bytes
    }

    /// The packed key of row `index`, which names the row: two rows have the same bytes only if they have the same key.
    pub fn packed_key(&self, index: usize) -> Option<&[u8]> {
        self.blocks.get(index / BLOCK_ROWS)?.packed_key(index % BLOCK_ROWS)
    }

    /// The digest of row `index`.
    pub fn digest(&self, index: usize) -> Option<RowDigest> {
        let block = self.blocks.get(index / BLOCK_ROWS)?;
        block.digests.get(index % BLOCK_ROWS).copied()
    }

    /// The key of row `index`.
    pub fn key(&self, index: usize) -> Option<Key> {
        unpacked(self.packed_key(index)?)
    }
}

impl Block {
    fn new(key_bytes: usize) -> Self {
        Self {
            digests: Vec::with_capacity(BLOCK_ROWS),
            ends: Vec::with_capacity(BLOCK_ROWS),
            keys: Vec::with_capacity(key_bytes),
        }
    }

    fn packed_key(&self, index: usize) -> Option<&[u8]> {
        let place = |end: u32| usize::try_from(end).ok();
        let begin = match index.checked_sub(1) {
            None => 0,
            Some(before) => place(*self.ends.get(before)?)?,
        };
        self.keys.get(begin..place(*self.ends.get(index)?)?)
    }
}

/// Packs one value of a key. `false`: it is too long.
fn pack(value: KeyPart<'_>, packed: &mut Vec<u8>) -> bool {
    let (tag, bytes) = match value {
        KeyPart::Int(value) => {
            packed.push(tag::INT);
            packed.extend_from_slice(&value.to_le_bytes());
            return true;
        }
        KeyPart::Text(text) => (tag::TEXT, text.as_bytes()),
        KeyPart::Bytes(bytes) => (tag::BYTES, bytes),
    };
    let Ok(length) = u32::try_from(bytes.len()) else {
        return false;
    };
    packed.push(tag);
    packed.extend_from_slice(&length.to_le_bytes());
    packed.extend_from_slice(bytes);
    true
}

fn unpacked(mut packed: &[u8]) -> Option<Key> {
    let mut values = Vec::new();
    while let Some((tag, rest)) = packed.split_first() {
        let (value, rest) = if *tag == tag::INT {
            let (value, rest) = rest.split_first_chunk::<8>()?;
            (KeyValue::Int(i64::from_le_bytes(*value)), rest)
        } else {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (bytes, rest) = rest.split_at_checked(length)?;
            let value = match *tag {
                tag::TEXT => KeyValue::Text(str::from_utf8(bytes).ok()?.to_owned()),
                _ => KeyValue::Bytes(bytes.to_vec()),
            };
            (value, rest)
        };
        values.push(value);
        packed = rest;
    }
    Some(Key(values))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = KeyValue> {
        prop_oneof![
            any::<i64>().prop_map(KeyValue::Int),
            any::<String>().prop_map(KeyValue::Text),
            any::<Vec<u8>>().prop_map(KeyValue::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn keys_come_back_as_they_were_and_name_their_rows(
            keys in prop::collection::vec(prop::collection::vec(value(), 0..4).prop_map(Key), 0..20),
            cut in 0usize..20,
        ) {
            let (mut first, mut second) = (KeptRows::default(), KeptRows::default());
            for (index, key) in keys.iter().enumerate() {
                let parts: Vec<KeyPart<'_>> = key.0.iter().map(KeyPart::from).collect();
                let half = if index < cut { &mut first } else { &mut second };
                let digest = RowDigest(u128::try_from(index).unwrap());
                prop_assert!(half.push(&parts, digest));
            }
            prop_assert!(first.append(&second));
            prop_assert_eq!(first.len(), keys.len());
            for (index, key) in keys.iter().enumerate() {
                prop_assert_eq!(first.key(index), Some(key.clone()));
                prop_assert_eq!(first.digest(index), Some(RowDigest(u128::try_from(index).unwrap())));
                for (other, other_key) in keys.iter().enumerate() {
                    prop_assert_eq!(first.packed_key(index) == first.packed_key(other), key == other_key);
                }
            }
            prop_assert_eq!(first.key(keys.len()), None);
        }
    }

    #[test]
    fn rows_are_found_again_in_every_block() {
        let many = i64::try_from(3 * BLOCK_ROWS).unwrap();
        let mut all = KeptRows::default();
        // The pieces and the blocks do not end together.
        let mut from = 0;
        for length in [700, 1, 1_500, many] {
            let mut piece = KeptRows::default();
            for id in from..from + length {
                let digest = RowDigest(u128::try_from(id).unwrap());
                assert!(piece.push(&[KeyPart::Int(id)], digest));
            }
            assert!(all.append(&piece));
            from += length;
        }
        assert_eq!(all.len(), usize::try_from(from).unwrap());
        assert_eq!(all.bytes(), all.len() * (16 + 4 + 9));
        for (index, id) in (0..from).enumerate() {
            assert_eq!(all.key(index), Some(Key::int(id)));
            assert_eq!(all.digest(index), Some(RowDigest(u128::try_from(id).unwrap())));
        }
        assert_eq!((all.packed_key(all.len()), all.digest(all.len())), (None, None));
    }
}
