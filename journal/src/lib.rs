//! Append-only checksummed frames with a readable torn tail.
