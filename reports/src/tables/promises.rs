//! Tests of what the tables promise.

use std::fs::{File, OpenOptions};
use std::path::Path;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::layout::{files, run_instant_us, utc_date};
use super::schema::{Cell, Row, Type};
use super::specimen::{full, sparse};
use super::*;
use crate::samples::{MIDNIGHT_US, RUN_ID, lag_sample};

fn round_trip<R: Row>() {
    let output = tempfile::tempdir().unwrap();
    let table = R::table();
    let rows = [full(table), sparse(table)];
    let mut writer = TableWriter::<R>::create(output.path(), FileName::of_run(RUN_ID));
    for cells in &rows {
        writer.push_cells(cells.clone()).unwrap();
    }
    writer.finish().unwrap();
    let typed = read::<R>(output.path(), Span::ALL).unwrap();
    let typed: Vec<Vec<Cell>> = typed.map(|row| row.unwrap().into_cells().unwrap()).collect();
    assert_eq!(typed, rows, "{}", table.name);
    let names: Vec<&str> = table.columns.iter().rev().map(|column| column.name).collect();
    let mut reversed = project(output.path(), table, &names, Span::ALL).unwrap();
    let mut first = reversed.next().unwrap().unwrap();
    first.reverse();
    assert_eq!(first, rows[0], "{}", table.name);
}

#[test]
fn every_table_reads_back_what_was_written() {
    round_trip::<RunRow>();
    round_trip::<CoverageRow>();
    round_trip::<ChunkRow>();
    round_trip::<DivergenceRow>();
    round_trip::<LagSampleRow>();
    round_trip::<LagIntervalRow>();
    round_trip::<RpoRow>();
    round_trip::<RpoCanaryRow>();
    round_trip::<EventRow>();
    round_trip::<GateCriterionRow>();
    round_trip::<CostRow>();
}

fn lag_rows(output: &Path, count: u64) -> TableWriter<LagSampleRow> {
    let mut writer = TableWriter::create(output, FileName::of_run(RUN_ID));
    for sequence in 0..count {
        let mut sample = lag_sample();
        sample.sequence = sequence;
        writer
            .push(LagSampleRow::from_record(RUN_ID, &sample).unwrap())
            .unwrap();
    }
    writer
}

#[test]
fn files_hold_only_the_types_of_the_contract() {
    let output = tempfile::tempdir().unwrap();
    let table = DivergenceRow::table();
    let mut writer = TableWriter::<DivergenceRow>::create(output.path(), FileName::of_run(RUN_ID));
    writer.push_cells(full(table)).unwrap();
    let path = writer.finish().unwrap().remove(0);
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let metadata = reader.metadata().file_metadata();
    assert_eq!(metadata.key_value_metadata(), None, "no ARROW:schema");
    let compression = reader.metadata().row_group(0).column(0).compression();
    assert!(matches!(compression, Compression::ZSTD(_)));
    for (column, field) in table.columns.iter().zip(metadata.schema().get_fields()) {
        let info = field.get_basic_info();
        assert_eq!(info.name(), column.name);
        let repetition = if column.nullable {
            Repetition::OPTIONAL
        } else {
            Repetition::REQUIRED
        };
        assert_eq!(info.repetition(), repetition, "{}", column.name);
        match (column.kind, info.logical_type_ref()) {
            (Type::Text, Some(LogicalType::String)) | (Type::TextList, Some(LogicalType::List)) => {}
            (Type::Timestamp, Some(LogicalType::Timestamp(stamp))) => {
                assert!(
                    stamp.is_adjusted_to_u_t_c && stamp.unit == TimeUnit::MICROS,
                    "{}",
                    column.name
                );
            }
            (Type::Int64, None) => assert_eq!(field.get_physical_type(), Physical::INT64),
            (kind, logical) => panic!("{}: {kind:?} as {logical:?}", column.name),
        }
    }
    let list = table.index_of("columns").unwrap();
    let inner = &metadata.schema().get_fields()[list].get_fields()[0];
    assert_eq!((inner.name(), inner.get_fields()[0].name()), ("list", "element"));
}

#[test]
fn a_word_outside_of_the_closed_list_is_refused() {
    let output = tempfile::tempdir().unwrap();
    let table = CoverageRow::table();
    let mut cells = full(table);
    cells[table.index_of("state").unwrap()] = Cell::Text("fine".to_owned());
    let mut writer = TableWriter::<CoverageRow>::create(output.path(), FileName::of_run(RUN_ID));
    let refused = writer.push_cells(cells).unwrap_err().to_string();
    assert_eq!(
        refused,
        "table coverage, column state: `fine` is not one of verified, diverged, partial, failed, skipped"
    );
    assert_eq!(writer.rows(), 0);
}

#[test]
fn null_and_empty_text_and_bad_digests_are_refused() {
    let table = DivergenceRow::table();
    let refusal = |column: &str, cell: Cell| {
        let output = tempfile::tempdir().unwrap();
        let mut cells = full(table);
        cells[table.index_of(column).unwrap()] = cell;
        let mut writer = TableWriter::<DivergenceRow>::create(output.path(), FileName::of_run(RUN_ID));
        writer.push_cells(cells).unwrap_err().to_string()
    };
    assert!(refusal("collection", Cell::Null).contains("NULL where"));
    assert!(refusal("detail", Cell::Text(String::new())).contains("empty text"));
    assert!(refusal("primary_digest", Cell::Text("ABC".to_owned())).contains("32 lower-case hex"));
    assert!(refusal("rechecks", Cell::Text("3".to_owned())).contains("STRING where"));
}

#[test]
fn a_count_that_does_not_fit_is_refused() {
    let output = tempfile::tempdir().unwrap();
    let mut sample = lag_sample();
    sample.lag_low_us = Some(u64::MAX);
    let row = LagSampleRow::from_record(RUN_ID, &sample).unwrap();
    let mut writer = TableWriter::create(output.path(), FileName::of_run(RUN_ID));
    let refused = writer.push(row).unwrap_err().to_string();
    assert!(refused.contains("lag_low_us") && refused.contains("INT64"), "{refused}");
}

#[test]
fn rows_lie_under_the_utc_date_of_their_own_time() {
    let output = tempfile::tempdir().unwrap();
    let mut writer = TableWriter::create(output.path(), FileName::of_run(RUN_ID));
    for at_us in [MIDNIGHT_US - 1, MIDNIGHT_US] {
        let mut sample = lag_sample();
        sample.planned_at_us = at_us;
        writer
            .push(LagSampleRow::from_record(RUN_ID, &sample).unwrap())
            .unwrap();
    }
    let shown = writer.finish().unwrap();
    let name = format!("{RUN_ID}.parquet");
    let table = output.path().join("lag_samples");
    assert_eq!(
        shown,
        [
            table.join("run_date=2026-11-20").join(&name),
            table.join("run_date=2026-11-21").join(&name)
        ]
    );
    let later = Span::between_us(MIDNIGHT_US, MIDNIGHT_US + 1);
    let rows = read::<LagSampleRow>(output.path(), later).unwrap();
    let planned: Vec<i64> = rows.map(|row| row.unwrap().planned_at.0).collect();
    assert_eq!(planned, [MIDNIGHT_US]);
}

#[test]
fn a_row_without_its_own_time_lies_under_the_date_of_its_run() {
    assert_eq!(run_instant_us(RUN_ID), Some(MIDNIGHT_US));
    let output = tempfile::tempdir().unwrap();
    let mut writer = TableWriter::<GateCriterionRow>::create(output.path(), FileName::of_run(RUN_ID));
    writer.push_cells(full(GateCriterionRow::table())).unwrap();
    let shown = writer.finish().unwrap();
    assert!(shown[0].parent().unwrap().ends_with("run_date=2026-11-21"));
    let mut cells = full(GateCriterionRow::table());
    cells[0] = Cell::Text("not-a-uuid".to_owned());
    let mut writer = TableWriter::<GateCriterionRow>::create(output.path(), FileName::of_run(RUN_ID));
    assert!(writer.push_cells(cells).unwrap_err().to_string().contains("UTC date"));
}

#[test]
fn nothing_is_visible_before_the_end_and_a_dropped_writer_leaves_nothing() {
    let output = tempfile::tempdir().unwrap();
    let writer = lag_rows(output.path(), 5_000);
    assert_eq!(
        files(output.path(), "lag_samples", Span::ALL).unwrap(),
        Vec::<std::path::PathBuf>::new()
    );
    drop(writer);
    let folder = output.path().join("lag_samples/run_date=2026-11-21");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn a_draft_of_a_killed_process_is_never_read_and_is_replaced() {
    let output = tempfile::tempdir().unwrap();
    let killed = lag_rows(output.path(), 5_000);
    std::mem::forget(killed); // as kill -9 leaves it
    let folder = output.path().join("lag_samples/run_date=2026-11-21");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(read::<LagSampleRow>(output.path(), Span::ALL).unwrap().count(), 0);
    lag_rows(output.path(), 3).finish().unwrap();
    assert_eq!(read::<LagSampleRow>(output.path(), Span::ALL).unwrap().count(), 3);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_path_and_shows_nothing() {
    let output = tempfile::tempdir().unwrap();
    let mut writer = TableWriter::<LagSampleRow>::create(output.path(), FileName::of_run(RUN_ID))
        .opening_with(|_| OpenOptions::new().write(true).open("/dev/full"));
    writer
        .push(LagSampleRow::from_record(RUN_ID, &lag_sample()).unwrap())
        .unwrap();
    let error = writer.finish().unwrap_err();
    let TableError::Unwritable { path, cause } = &error else {
        panic!("{error}");
    };
    assert!(path.starts_with(output.path()), "{error}");
    assert_eq!(cause.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!(read::<LagSampleRow>(output.path(), Span::ALL).unwrap().count(), 0);
}

#[test]
fn an_output_that_is_no_folder_is_an_error_that_names_it() {
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut writer = TableWriter::create(output.path(), FileName::of_run(RUN_ID));
    let row = LagSampleRow::from_record(RUN_ID, &lag_sample()).unwrap();
    let error = writer.push(row).unwrap_err().to_string();
    assert!(error.contains(&output.path().display().to_string()), "{error}");
}

#[test]
fn row_groups_close_at_their_bounds() {
    let output = tempfile::tempdir().unwrap();
    let path = lag_rows(output.path(), 150_000).finish().unwrap().remove(0);
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows: Vec<i64> = reader
        .metadata()
        .row_groups()
        .iter()
        .map(|group| group.num_rows())
        .collect();
    assert_eq!(rows, [100_000, 50_000]);
}

#[test]
fn large_values_close_row_groups_by_bytes() {
    let output = tempfile::tempdir().unwrap();
    let table = DivergenceRow::table();
    let mut writer = TableWriter::<DivergenceRow>::create(output.path(), FileName::of_run(RUN_ID));
    let value = table.index_of("primary_value").unwrap();
    let mut noise = 7u64;
    for _ in 0..60 {
        let mut cells = full(table);
        let mut text = String::new();
        while text.len() < 400_000 {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(&format!("{:x}", noise >> 16));
        }
        cells[value] = Cell::Text(text);
        writer.push_cells(cells).unwrap();
    }
    let path = writer.finish().unwrap().remove(0);
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let largest = reader
        .metadata()
        .row_groups()
        .iter()
        .map(|group| group.compressed_size())
        .max();
    // One batch may stand over the bound.
    assert!(
        largest.unwrap() <= i64::try_from(ROW_GROUP_BYTES_MAX + (2 << 20)).unwrap(),
        "{largest:?}"
    );
    assert!(reader.metadata().num_row_groups() > 1);
}

#[test]
fn more_dates_than_a_healthy_clock_makes_are_refused() {
    let output = tempfile::tempdir().unwrap();
    let mut writer = TableWriter::create(output.path(), FileName::of_run(RUN_ID));
    let mut refused = None;
    for day in 0..=i64::try_from(DATES_OPEN_MAX).unwrap() {
        let mut sample = lag_sample();
        sample.planned_at_us = MIDNIGHT_US + day * 86_400_000_000;
        refused = writer.push(LagSampleRow::from_record(RUN_ID, &sample).unwrap()).err();
    }
    assert!(refused.unwrap().to_string().contains("clock"));
}

#[test]
fn a_file_of_another_table_is_foreign() {
    let output = tempfile::tempdir().unwrap();
    let shown = lag_rows(output.path(), 1).finish().unwrap();
    let folder = output.path().join("runs/run_date=2026-11-21");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&shown[0], folder.join("stray.parquet")).unwrap();
    let error = read::<RunRow>(output.path(), Span::ALL)
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, TableError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("stray.parquet"), "{error}");
}

#[test]
fn a_damaged_file_is_an_error_and_never_skipped() {
    let output = tempfile::tempdir().unwrap();
    let shown = lag_rows(output.path(), 10).finish().unwrap();
    let whole = std::fs::read(&shown[0]).unwrap();
    std::fs::write(&shown[0], &whole[..whole.len() / 2]).unwrap();
    let rows: Vec<_> = read::<LagSampleRow>(output.path(), Span::ALL).unwrap().collect();
    assert_eq!(rows.len(), 1);
    assert!(matches!(rows[0], Err(TableError::Unreadable { .. })));
}

#[test]
fn an_unknown_column_cannot_be_projected() {
    let output = tempfile::tempdir().unwrap();
    let error = project(output.path(), RunRow::table(), &["verdict"], Span::ALL)
        .err()
        .unwrap();
    assert!(error.to_string().contains("no such column"), "{error}");
}

#[test]
fn file_names_of_different_parts_differ() {
    let name = |part: &str| FileName::of_part(RUN_ID, part).visible();
    assert_ne!(name("a/b"), name("a~2fb"));
    assert_eq!(name("a/b"), format!("{RUN_ID}-a~2fb.parquet"));
    assert!(utc_date(i64::MAX).is_none());
}
