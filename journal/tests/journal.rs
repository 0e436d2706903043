//! What a journal promises, over real files.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use journal::{Error, FRAME_BYTES_MAX, Reader, Tail, Writer};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn written(path: &Path, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::create(path, "ledger").unwrap();
    for frame in frames {
        writer.append(frame).unwrap();
    }
    fs::read(path).unwrap()
}

/// All frames and the tail, or the first error.
fn read(path: &Path) -> journal::Result<(Vec<Vec<u8>>, Tail)> {
    let mut reader = Reader::open(path)?;
    let frames = reader.by_ref().collect::<journal::Result<Vec<_>>>()?;
    Ok((frames, reader.tail().unwrap()))
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)
}

/// Offsets at which a frame of the journal ends; the header's end is the first.
fn ends(frames: &[Vec<u8>]) -> Vec<usize> {
    let mut end = 64;
    std::iter::once(end)
        .chain(frames.iter().map(|frame| {
            end += 8 + frame.len();
            end
        }))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_prefix_reads_as_a_prefix_of_the_frames_and_a_tail(frames in frames()) {
        let folder = folder();
        let path = folder.path().join("j");
        let bytes = written(&path, &frames);
        let ends = ends(&frames);
        prop_assert_eq!(bytes.len(), *ends.last().unwrap());
        for cut in 0..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let (found, tail) = read(&path).unwrap();
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            prop_assert_eq!(&found[..], &frames[..whole.saturating_sub(1)]);
            let at = whole.checked_sub(1).map_or(0, |index| ends[index]);
            if whole > 0 && at == cut {
                prop_assert_eq!(tail, Tail::Clean);
            } else {
                prop_assert_eq!(tail, Tail::Torn { at: at as u64, bytes: (cut - at) as u64 });
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_found(frames in frames().prop_filter("needs a frame", |frames| !frames.is_empty()), bit in 0u8..8) {
        let folder = folder();
        let path = folder.path().join("j");
        let bytes = written(&path, &frames);
        let ends = ends(&frames);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            fs::write(&path, &bad).unwrap();
            let hit = ends.iter().filter(|&&end| end <= at).count(); // 0: the header, n: frame n - 1
            let last = hit == frames.len();
            match read(&path) {
                Err(Error::NotAJournal { .. }) => prop_assert!(at < 8),
                Err(Error::Corrupt { offset, .. }) => {
                    prop_assert!(!last);
                    prop_assert_eq!(offset, if hit == 0 { 0 } else { ends[hit - 1] as u64 });
                }
                Ok((found, tail)) => {
                    // Nothing follows that could tell a changed last frame from a cut one.
                    prop_assert!(last, "byte {} of {} was not found", at, bytes.len());
                    prop_assert_eq!(&found[..], &frames[..frames.len() - 1]);
                    prop_assert!(matches!(tail, Tail::Torn { .. }), "{:?}", tail);
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }

    #[test]
    fn resume_cuts_the_tail_and_goes_on(frames in frames(), cut in 0usize..60, more in frames()) {
        let folder = folder();
        let path = folder.path().join("j");
        let bytes = written(&path, &frames);
        fs::write(&path, &bytes[..bytes.len().saturating_sub(cut)]).unwrap();
        let (kept, before) = read(&path).unwrap();
        let (mut writer, tail) = Writer::resume(&path, "ledger").unwrap();
        prop_assert_eq!(tail, before);
        for frame in &more {
            writer.append(frame).unwrap();
        }
        let (found, tail) = read(&path).unwrap();
        prop_assert_eq!(tail, Tail::Clean);
        prop_assert_eq!(found, [kept, more].concat());
    }
}

#[test]
fn a_frame_that_stands_elsewhere_does_not_check() {
    let folder = folder();
    let path = folder.path().join("j");
    let frames = [b"first".to_vec(), b"again".to_vec(), b"third".to_vec()];
    let mut bytes = written(&path, &frames);
    let copy = bytes[64..77].to_vec();
    bytes[77..90].copy_from_slice(&copy); // whole and well-formed, but of another place
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(read(&path), Err(Error::Corrupt { offset: 77, .. })));
}

#[test]
fn bytes_in_a_payload_that_look_like_a_frame_are_not_taken_for_one() {
    let folder = folder();
    let path = folder.path().join("j");
    let mut inner = written(&folder.path().join("inner"), &[b"inner".to_vec()]);
    inner.extend_from_slice(b"what follows in the payload");
    let bytes = written(&path, &[b"whole".to_vec(), inner]);
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (found, tail) = read(&path).unwrap();
    assert_eq!(found, [b"whole".to_vec()]);
    assert_eq!(
        tail,
        Tail::Torn {
            at: 77,
            bytes: bytes.len() as u64 - 78
        }
    );
}

#[test]
fn more_rubbish_than_one_cut_frame_can_leave_is_corruption() {
    let folder = folder();
    let path = folder.path().join("j");
    let mut bytes = written(&path, &[b"whole".to_vec()]);
    bytes.resize(bytes.len() + FRAME_BYTES_MAX + 9, b'x');
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(read(&path), Err(Error::Corrupt { offset: 77, .. })));
    assert!(matches!(
        Writer::resume(&path, "ledger"),
        Err(Error::Corrupt { offset: 77, .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), bytes, "a corrupt journal is left as it is");
}

#[test]
fn a_tail_of_zeros_is_torn() {
    let folder = folder();
    let path = folder.path().join("j");
    let mut bytes = written(&path, &[b"whole".to_vec()]);
    bytes.resize(bytes.len() + 4096, 0); // as some file systems leave it when the power fails
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path).unwrap().1, Tail::Torn { at: 77, bytes: 4096 });
}

#[test]
fn after_an_error_a_reader_yields_nothing_and_knows_no_tail() {
    let folder = folder();
    let path = folder.path().join("j");
    let mut bytes = written(&path, &[b"first".to_vec(), b"second".to_vec()]);
    bytes[73] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.tail(), None);
    let error = reader.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("corrupt at offset 64"), "{error}");
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    assert!(reader.next().is_none());
    assert_eq!(reader.tail(), None, "a journal that ends in an error has no known tail");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    sequence: u64,
    text: String,
}

#[test]
fn records_come_back_and_strangers_are_refused() {
    let folder = folder();
    let path = folder.path().join("j");
    let mut writer = Writer::create(&path, "ledger").unwrap();
    let note = Note {
        sequence: u64::MAX,
        text: "naïve".to_owned(),
    };
    writer.append_record(&note).unwrap();
    writer.append(b"{\"other\":1}").unwrap();
    writer.append_record(&note).unwrap();
    writer.sync().unwrap();
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.kind(), Some("ledger"));
    let mut records = reader.records::<Note>();
    assert_eq!(records.next().unwrap().unwrap(), note);
    assert!(matches!(records.next(), Some(Err(Error::Record { .. }))));
    assert!(records.next().is_none(), "nothing is skipped");
    assert_eq!(reader.tail(), None);
}

#[test]
fn a_journal_is_for_its_owner_and_has_one_writer() {
    let folder = folder();
    let path = folder.path().join("j");
    let writer = Writer::create(&path, "ledger").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Writer::resume(&path, "ledger"), Err(Error::Busy { .. })));
    assert!(matches!(Writer::create(&path, "ledger"), Err(Error::Exists { .. })));
    assert_eq!(read(&path).unwrap(), (Vec::new(), Tail::Clean), "reading needs no lock");
    drop(writer);
    assert!(matches!(Writer::resume(&path, "reconcile"), Err(Error::Kind { .. })));
    Writer::resume(&path, "ledger").unwrap();
}

#[test]
fn a_file_of_somebody_else_is_never_cut() {
    let folder = folder();
    for content in ["x", "a letter to my aunt", &"long".repeat(100)] {
        let path = folder.path().join("letter");
        fs::write(&path, content).unwrap();
        assert!(matches!(
            Writer::resume(&path, "ledger"),
            Err(Error::NotAJournal { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_later_format_is_refused() {
    let folder = folder();
    let path = folder.path().join("j");
    let mut bytes = written(&path, &[]);
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(read(&path), Err(Error::Version { found: 2, .. })));
}

#[test]
fn bounds_are_kept_and_leave_the_writer_usable() {
    let folder = folder();
    let path = folder.path().join("j");
    let mut writer = Writer::create(&path, "ledger").unwrap();
    let largest = vec![b' '; FRAME_BYTES_MAX + 1];
    assert!(matches!(writer.append(&largest), Err(Error::FrameTooLarge { .. })));
    writer.append(&largest[1..]).unwrap();
    writer.append(b"next").unwrap();
    let (found, tail) = read(&path).unwrap();
    assert_eq!((found.len(), tail), (2, Tail::Clean));
    assert!(matches!(
        Writer::create(&folder.path().join("k"), &"k".repeat(49)),
        Err(Error::KindTooLong { .. })
    ));
}

#[test]
fn a_full_device_is_told_as_a_full_disk() {
    let error = Writer::create(Path::new("/dev/full"), "ledger").unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("/dev/full") && text.contains("free space"), "{text}");
}

#[test]
fn a_journal_can_be_synced_from_another_thread() {
    let folder = folder();
    let path = folder.path().join("j");
    let mut writer = Writer::create(&path, "ledger").unwrap();
    let syncer = writer.syncer().unwrap();
    let thread = std::thread::spawn(move || syncer.sync());
    writer.append(b"beside").unwrap();
    thread.join().unwrap().unwrap();
    assert_eq!(read(&path).unwrap().0, [b"beside".to_vec()]);
}

/// As has a process that is being started while the writer ends.
#[test]
fn a_writer_that_has_ended_holds_nothing_though_its_file_is_still_open_elsewhere() {
    let folder = folder();
    let path = folder.path().join("j");
    let writer = Writer::create(&path, "ledger").unwrap();
    let syncer = writer.syncer().unwrap();
    assert!(matches!(Writer::resume(&path, "ledger"), Err(Error::Busy { .. })));
    assert!(journal::is_being_written(&path).unwrap());
    drop(writer);
    assert!(!journal::is_being_written(&path).unwrap());
    let (_next, tail) = Writer::resume(&path, "ledger").unwrap();
    assert_eq!(tail, Tail::Clean);
    drop(syncer);
}

const CHILD_JOURNAL: &str = "DRIFTLINE_TEST_CHILD_JOURNAL";

/// Runs twice: as the test, and within the child that it starts and kills.
#[test]
fn what_was_appended_survives_kill_9() {
    if let Some(path) = std::env::var_os(CHILD_JOURNAL) {
        let mut writer = Writer::create(&PathBuf::from(path), "ledger").unwrap();
        let mut stdout = std::io::stdout();
        for sequence in 1u64.. {
            writer.append(&sequence.to_le_bytes()).unwrap();
            // The parent is gone or has killed us: either way we are done.
            if writeln!(stdout, "\nappended {sequence}").is_err() {
                return;
            }
        }
    }
    let folder = folder();
    let path = folder.path().join("j");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_appended_survives_kill_9", "--nocapture"])
        .env(CHILD_JOURNAL, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("appended ").and_then(|rest| rest.parse::<u64>().ok()))
        .take(500)
        .last();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told, Some(500));
    let (found, _) = read(&path).unwrap();
    assert!(found.len() >= 500, "{} frames of 500", found.len());
    for (frame, sequence) in found.iter().zip(1u64..) {
        assert_eq!(frame, &sequence.to_le_bytes());
    }
}
