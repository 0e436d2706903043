//! Writes what `tests/parquet/check_contract.py` reads: `FOLDER/contract.json`, and specimens of every table under `FOLDER/output`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("usage: parquet_contract FOLDER")?;
    let output = folder.join("output");
    std::fs::create_dir_all(&output)?;
    std::fs::write(folder.join("contract.json"), reports::tables::contract_json())?;
    reports::tables::write_specimens(&output)?;
    reports::views::write_views(&output)?;
    Ok(())
}
