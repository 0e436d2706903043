#!/usr/bin/env python3
"""Opens an output folder with DuckDB, pyarrow and Polars and holds every file against the written contract.

usage: check_contract.py CONTRACT.json OUTPUT [RECIPES]

Names, order, types, nullability, closed lists, digests, compression, row groups and dates are compared as the engines see them, without a
cast. Then views.sql and every recipe run in DuckDB. Exits 1 on any mismatch, and prints each.
"""

import json
import os
import re
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS_MAX = 100_000
# The bound is 8 MiB of encoded pages; one batch of at most 1 MiB of text and the page headers may stand over it.
ROW_GROUP_BYTES_MAX = (8 << 20) + (2 << 20)

ARROW = {
    "INT64": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "STRING": pa.string(),
    "LIST<STRING>": pa.list_(pa.field("element", pa.string(), nullable=False)),
    "TIMESTAMP(MICROS, UTC)": pa.timestamp("us", tz="UTC"),
}
DUCKDB = {
    "INT64": "BIGINT",
    "DOUBLE": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "STRING": "VARCHAR",
    "LIST<STRING>": "VARCHAR[]",
    "TIMESTAMP(MICROS, UTC)": "TIMESTAMP WITH TIME ZONE",
}
POLARS = {
    "INT64": pl.Int64,
    "DOUBLE": pl.Float64,
    "BOOLEAN": pl.Boolean,
    "STRING": pl.String,
    "LIST<STRING>": pl.List(pl.String),
    "TIMESTAMP(MICROS, UTC)": pl.Datetime("us", "UTC"),
}
VIEWS = {"latest_run": "runs", "latest_lag": "lag_intervals", "open_divergences": "divergences"}

problems = []


def expect(is_so, *words):
    if not is_so:
        problems.append(" ".join(str(word) for word in words))


def expect_same(where, found, wanted):
    if found != wanted:
        for one, other in zip(found, wanted):
            expect(one == other, where, "found", one, "wanted", other)
        expect(len(found) == len(wanted), where, "found", len(found), "columns, wanted", len(wanted))


def check_pyarrow(path, columns):
    file = pq.ParquetFile(path)
    metadata = file.metadata
    expect(b"ARROW:schema" not in (metadata.metadata or {}), path, "embeds ARROW:schema")
    found = [(field.name, field.type, field.nullable) for field in file.schema_arrow]
    expect_same(f"{path} (pyarrow)", found, [(c["name"], ARROW[c["type"]], c["nullable"]) for c in columns])
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        expect(group.num_rows <= ROW_GROUP_ROWS_MAX, path, "row group of", group.num_rows, "rows")
        chunks = [group.column(leaf) for leaf in range(group.num_columns)]
        size = sum(chunk.total_compressed_size for chunk in chunks)
        expect(size <= ROW_GROUP_BYTES_MAX, path, "row group of", size, "bytes")
        compressions = {chunk.compression for chunk in chunks}
        expect(compressions <= {"ZSTD"}, path, "compressed by", compressions)
    for batch in file.iter_batches():
        check_values(path, columns, batch)
    return metadata.num_rows


def check_values(path, columns, batch):
    for column in columns:
        if not (column["one_of"] or column["hex_digits"]):
            continue
        for value in batch.column(column["name"]).unique().to_pylist():
            if value is None:
                continue
            if column["one_of"]:
                expect(value in column["one_of"], path, column["name"], "holds", value)
            else:
                digits = column["hex_digits"]
                expect(re.fullmatch("[0-9a-f]{%d}" % digits, value), path, column["name"], "is no digest:", value)


def check_duckdb(connection, path, columns, dated_by):
    found = connection.execute("DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)", [str(path)]).fetchall()
    expect_same(f"{path} (duckdb)", [row[:2] for row in found], [(c["name"], DUCKDB[c["type"]]) for c in columns])
    # Top-level fields alone: a list has inner ones.
    schema = connection.execute("SELECT name, repetition_type FROM parquet_schema(?)", [str(path)]).fetchall()
    repetitions = {name: repetition for name, repetition in reversed(schema[1:])}
    for column in columns:
        wanted = "OPTIONAL" if column["nullable"] else "REQUIRED"
        expect(repetitions.get(column["name"]) == wanted, path, column["name"], "is", repetitions.get(column["name"]))
    date = path.parent.name.removeprefix("run_date=")
    if dated_by != "run_id":
        strays = connection.execute(
            f"SELECT count(*) FROM read_parquet(?, hive_partitioning = false)"
            f" WHERE strftime(\"{dated_by}\" AT TIME ZONE 'UTC', '%Y-%m-%d') <> ?",
            [str(path), date],
        ).fetchone()[0]
        expect(strays == 0, path, "holds", strays, "rows of another date")
    return connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()[0]


def check_polars(path, columns):
    frame = pl.scan_parquet(path, hive_partitioning=False)
    expect_same(
        f"{path} (polars)", list(frame.collect_schema().items()), [(c["name"], POLARS[c["type"]]) for c in columns]
    )
    nulls = frame.null_count().collect().row(0, named=True)
    for column in columns:
        expect(column["nullable"] or nulls.get(column["name"]) == 0, path, column["name"], "holds NULL (polars)")
    return frame.select(pl.len()).collect().item()


def check_table(connection, output, table):
    folder = output / table["name"]
    files = sorted(folder.glob("*/*.parquet"))
    for path in files:
        rows = {
            check_pyarrow(path, table["columns"]),
            check_duckdb(connection, path, table["columns"], table["dated_by"]),
            check_polars(path, table["columns"]),
        }
        expect(len(rows) == 1, path, "the engines count", rows, "rows")
    for path in folder.rglob("*"):
        is_known = path.is_dir() or path in files or path.name.startswith(".")
        expect(is_known, path, "does not belong there")
    if files:
        # The whole table at once, as people open it.
        pq.read_table(folder, partitioning="hive")
        pl.scan_parquet(folder / "*" / "*.parquet", hive_partitioning=True).collect()
    return len(files)


def check_views(output, recipes, contract):
    columns = {table["name"]: [column["name"] for column in table["columns"]] for table in contract["tables"]}
    connection = duckdb.connect()
    os.chdir(output)  # views.sql names its files relative to itself
    connection.execute(Path("views.sql").read_text())
    for view, table in VIEWS.items():
        found = [row[0] for row in connection.execute(f"DESCRIBE {view}").fetchall()]
        expect(found == columns[table], view, "has columns", found)
        connection.sql(f"SELECT * FROM {view}").to_arrow_table()
    for recipe in recipes:
        try:
            connection.sql(recipe.read_text()).to_arrow_table()
        except duckdb.Error as error:
            expect(False, recipe, error)


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    contract = json.loads(Path(sys.argv[1]).read_text())
    output = Path(sys.argv[2]).resolve()
    recipes = sorted(Path(sys.argv[3]).resolve().glob("*.sql")) if len(sys.argv) == 4 else []
    connection = duckdb.connect()
    files = sum(check_table(connection, output, table) for table in contract["tables"])
    expect(files > 0, output, "holds no table")
    known = {table["name"] for table in contract["tables"]}
    for folder in output.iterdir():
        is_table = folder.is_dir() and any(folder.glob("run_date=*"))
        expect(not is_table or folder.name in known, folder, "is no table of the contract")
    check_views(output, recipes, contract)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"{files} files of {len(known)} tables keep the contract in DuckDB, pyarrow and Polars; {len(recipes)} recipes run")


if __name__ == "__main__":
    main()
