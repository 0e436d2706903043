//! The digest of a row that is hashed here.
//!
//! A row is hashed as it is sent: for each column of the recipe, in its order, the length of the value as a big-endian `int4`, -1 for NULL,
//! and its bytes. All rows of a recipe have as many columns, so no two rows have the same bytes; and what a copy brings is hashed where it
//! lies.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::RowDigest;

/// Writes one more value as a copy would.
pub(crate) fn push(row: &mut Vec<u8>, value: Option<&[u8]>) {
    // The length of a value has 30 bits at the server.
    let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
    row.extend_from_slice(&length.to_be_bytes());
    row.extend_from_slice(value.unwrap_or_default());
}

/// XXH3-128 of a row. `short_forms` has a byte for each column that is sent in a short form where its value is too wide, 1 where it is: such a row
/// is hashed with them behind it, so that no value looks like the short form of another; any other row is hashed as if it had none.
pub(crate) fn digest(seed: u64, row: &[u8], short_forms: &[u8]) -> RowDigest {
    if short_forms.iter().all(|flag| *flag == 0) {
        return RowDigest(xxh3_128_with_seed(row, seed));
    }
    RowDigest(xxh3_128_with_seed(&[row, short_forms].concat(), seed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Values = Vec<Option<Vec<u8>>>;

    fn row(values: &Values) -> Vec<u8> {
        let mut row = Vec::new();
        values.iter().for_each(|value| push(&mut row, value.as_deref()));
        row
    }

    fn values() -> impl Strategy<Value = Values> {
        prop::collection::vec(prop::option::of(prop::collection::vec(0u8..2, 0..4)), 3)
    }

    proptest! {
        #[test]
        fn rows_have_the_same_digest_only_if_they_are_the_same(one in values(), other in values(), seed in any::<u64>()) {
            let digest = |values| digest(seed, &row(values), &[]);
            prop_assert_eq!(digest(&one) == digest(&other), one == other);
        }

        #[test]
        fn a_short_form_is_not_the_value_that_it_looks_like(values in values(), at in 0usize..3, seed in any::<u64>()) {
            let mut flags = [0; 3];
            prop_assert_eq!(digest(seed, &row(&values), &flags), digest(seed, &row(&values), &[]));
            flags[at] = 1;
            prop_assert_ne!(digest(seed, &row(&values), &flags), digest(seed, &row(&values), &[]));
        }

        #[test]
        fn another_run_has_other_digests(values in values(), seed in any::<u64>()) {
            prop_assert_ne!(digest(seed, &row(&values), &[]), digest(seed.wrapping_add(1), &row(&values), &[]));
        }
    }

    /// Recorded digests are compared with those of a later run. The value is that of the reference implementation.
    #[test]
    fn it_never_changes() {
        let values = vec![Some(vec![0, 0, 0, 7]), None, Some(b"a".to_vec())];
        assert_eq!(row(&values), b"\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff\0\0\0\x01a");
        assert_eq!(
            digest(7, &row(&values), &[]),
            RowDigest(0x70f8_6a5f_f878_92f8_833d_c613_919d_7c3c)
        );
    }
}
