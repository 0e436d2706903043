//! The bytes of a journal. All numbers are little-endian.
//!
//! | part | bytes |
//! |---|---|
//! | header | magic 8, version 2, kind length 2, kind padded with NUL to 48, crc32 of those 60 bytes 4 |
//! | frame | payload length 4, crc32 4, payload |
//!
//! The checksum of a frame covers its offset in the journal (8 bytes), the length and the payload. With the offset in it a frame that
//! stands at another place than where it was appended does not check, nor do bytes inside of a payload that look like a frame.

/// Bound of the payload of one frame.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Bound of the kind in the header.
pub const KIND_BYTES_MAX: usize = 48;

pub(crate) const VERSION: u16 = 1;
pub(crate) const MAGIC: [u8; 8] = *b"\x8fdrftjl\n";
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const FRAME_HEAD_BYTES: usize = 8;

const KIND_AT: usize = 12;
const HEADER_CRC_AT: usize = HEADER_BYTES - 4;

/// What a header says.
pub(crate) enum Header {
    /// A journal of this kind.
    Known(String),
    /// Another file.
    Foreign,
    /// A later format.
    Version(u16),
    /// Its checksum or its kind does not hold.
    Bad,
}

/// `kind` must have been checked by [`kind_fits`].
pub(crate) fn header(kind: &str) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    let length = u16::try_from(kind.len()).unwrap_or(u16::MAX);
    bytes[10..12].copy_from_slice(&length.to_le_bytes());
    bytes[KIND_AT..KIND_AT + kind.len()].copy_from_slice(kind.as_bytes());
    let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
    bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(crate) fn kind_fits(kind: &str) -> bool {
    kind.len() <= KIND_BYTES_MAX && !kind.contains('\0')
}

pub(crate) fn parse_header(bytes: &[u8; HEADER_BYTES]) -> Header {
    if bytes[..8] != MAGIC {
        return Header::Foreign;
    }
    let crc = u32::from_le_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]);
    if crc32fast::hash(&bytes[..HEADER_CRC_AT]) != crc {
        return Header::Bad;
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != VERSION {
        return Header::Version(version);
    }
    let length = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
    bytes[KIND_AT..HEADER_CRC_AT]
        .get(..length)
        .and_then(|kind| std::str::from_utf8(kind).ok())
        .map_or(Header::Bad, |kind| Header::Known(kind.to_owned()))
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameHead {
    pub(crate) length: u32,
    pub(crate) crc: u32,
}

impl FrameHead {
    pub(crate) fn parse(bytes: [u8; FRAME_HEAD_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            length: u32::from_le_bytes([a, b, c, d]),
            crc: u32::from_le_bytes([e, f, g, h]),
        }
    }

    /// Length of the payload, if a frame may be that long.
    pub(crate) fn payload_bytes(self) -> Option<usize> {
        usize::try_from(self.length)
            .ok()
            .filter(|&bytes| bytes <= FRAME_BYTES_MAX)
    }

    pub(crate) fn checks(self, offset: u64, payload: &[u8]) -> bool {
        checksum(offset, self.length, payload) == self.crc
    }
}

fn checksum(offset: u64, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Puts the frame of `payload` at `offset` into `frame`. `None`: the payload is too large.
pub(crate) fn encode_frame(frame: &mut Vec<u8>, offset: u64, payload: &[u8]) -> Option<()> {
    if payload.len() > FRAME_BYTES_MAX {
        return None;
    }
    let length = u32::try_from(payload.len()).ok()?;
    frame.clear();
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&checksum(offset, length, payload).to_le_bytes());
    frame.extend_from_slice(payload);
    Some(())
}

/// Walks over the whole frames with which `bytes`, the part of a journal from `offset` on, begin (at 0: behind the header), and hands over
/// their payloads. Returns where the last of them ends in `bytes`; what follows is not whole, or does not check.
pub fn whole_frames<'a>(offset: u64, bytes: &'a [u8], mut visit: impl FnMut(&'a [u8])) -> usize {
    let mut end = if offset == 0 { HEADER_BYTES } else { 0 };
    if end > bytes.len() {
        return 0;
    }
    while let Some((head, rest)) = bytes[end..].split_first_chunk::<FRAME_HEAD_BYTES>() {
        let head = FrameHead::parse(*head);
        let at = offset.saturating_add(u64::try_from(end).unwrap_or(u64::MAX));
        let Some(payload) = head.payload_bytes().and_then(|length| rest.get(..length)) else {
            break;
        };
        if !head.checks(at, payload) {
            break;
        }
        visit(payload);
        end += FRAME_HEAD_BYTES + payload.len();
    }
    end
}

/// What bytes are that do not check as a frame.
pub(crate) enum Remainder {
    /// The beginning of one frame that was cut short, or never reached the disk whole.
    Torn,
    /// A whole frame stands at this offset behind it.
    FrameAt(u64),
    /// So much of it looks like heads of frames that it was not searched to its end.
    Undecided,
}

/// Bound of the bytes that [`judge_remainder`] hashes: many times what any remainder of text needs.
const SEARCH_BYTES_MAX: usize = 1 << 30;

/// Looks for a whole frame behind the bad one with which `bytes` begin.
pub(crate) fn judge_remainder(offset: u64, bytes: &[u8]) -> Remainder {
    let mut hashed = 0usize;
    let mut at = offset;
    for start in 1..bytes.len() {
        at += 1;
        let Some((head, rest)) = bytes[start..].split_first_chunk::<FRAME_HEAD_BYTES>() else {
            break;
        };
        let head = FrameHead::parse(*head);
        let Some(payload) = head.payload_bytes().and_then(|length| rest.get(..length)) else {
            continue;
        };
        hashed = hashed.saturating_add(payload.len() + FRAME_HEAD_BYTES);
        if hashed > SEARCH_BYTES_MAX {
            return Remainder::Undecided;
        }
        if head.checks(at, payload) {
            return Remainder::FrameAt(at);
        }
    }
    Remainder::Torn
}
