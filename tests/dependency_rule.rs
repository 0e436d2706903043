//! Dependencies run against the data, and stay where they belong. Read from `cargo metadata` and from the text of the store folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// One dependency as a member of the workspace declares it.
#[derive(Debug, Clone)]
struct Edge {
    from: String,
    to: String,
    is_dev: bool,
    is_optional: bool,
}

/// For each member, the siblings that it may use.
const SIBLINGS: [(&str, &[&str]); 7] = [
    ("stores", &[]),
    ("journal", &[]),
    ("lab", &[]),
    ("probes", &["stores", "journal"]),
    ("reconcile", &["stores", "journal"]),
    ("reports", &["stores", "journal", "probes", "reconcile"]),
    (
        "driftline",
        &["stores", "journal", "probes", "reconcile", "reports", "lab"],
    ),
];

/// Libraries that talk to a store of some vendor; names that end in `-` are prefixes.
const VENDOR_SDKS: [&str; 10] = [
    "tokio-postgres",
    "postgres-types",
    "postgres-protocol",
    "deadpool",
    "deadpool-postgres",
    "tokio-postgres-rustls",
    "aws-",
    "rdkafka",
    "redis",
    "sqlx",
];

/// Members whose benchmarks are programs of their own, and may report errors as programs do.
const BENCHED: [&str; 1] = ["probes"];

/// Libraries for people at a terminal.
const FOR_THE_BINARY: [&str; 3] = ["clap", "anyhow", "tracing-subscriber"];

fn is_vendor_sdk(name: &str) -> bool {
    let matches = |sdk: &&str| name == *sdk || (sdk.ends_with('-') && name.starts_with(*sdk));
    VENDOR_SDKS.iter().any(matches)
}

fn breaches(edges: &[Edge]) -> Vec<String> {
    edges.iter().filter_map(breach).collect()
}

fn breach(edge: &Edge) -> Option<String> {
    let Edge { from, to, .. } = edge;
    let siblings: BTreeMap<&str, &[&str]> = SIBLINGS.into();
    let Some(allowed) = siblings.get(from.as_str()) else {
        return Some(format!("{from} has no place in the rule: give it one"));
    };
    if siblings.contains_key(to.as_str()) {
        let to_lab_for_tests = edge.is_dev && to == "lab";
        let to_itself_for_tests = edge.is_dev && to == from; // to turn on a feature
        if to_lab_for_tests || to_itself_for_tests {
            return None;
        }
        if !allowed.contains(&to.as_str()) {
            return Some(format!("{from} must not use its sibling {to}"));
        }
        if to == "lab" && !edge.is_optional {
            return Some(format!("{from} ships the lab: make it optional"));
        }
        return None;
    }
    if is_vendor_sdk(to) && !edge.is_dev && !["stores", "lab"].contains(&from.as_str()) {
        return Some(format!("{from} uses the vendor SDK {to}: only stores may"));
    }
    let is_of_a_benchmark = edge.is_dev && to == "anyhow" && BENCHED.contains(&from.as_str());
    if FOR_THE_BINARY.contains(&to.as_str()) && from != "driftline" && !is_of_a_benchmark {
        return Some(format!("{from} uses {to}: only the binary may"));
    }
    None
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn dependencies_run_against_the_data() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .unwrap();
    let mut edges = Vec::new();
    for package in &metadata.packages {
        edges.extend(package.dependencies.iter().map(|dependency| Edge {
            from: package.name.to_string(),
            to: dependency.name.clone(),
            is_dev: dependency.kind == DependencyKind::Development,
            is_optional: dependency.optional,
        }));
    }
    assert_eq!(
        metadata.packages.len(),
        SIBLINGS.len(),
        "a member has no place in the rule"
    );
    assert!(edges.len() > 50, "only {} dependencies were read", edges.len());
    assert_eq!(breaches(&edges), [""; 0]);
}

#[test]
fn every_kind_of_breach_is_found() {
    let edge = |from: &str, to: &str| Edge {
        from: from.to_owned(),
        to: to.to_owned(),
        is_dev: false,
        is_optional: false,
    };
    let dev = |from: &str, to: &str| Edge {
        is_dev: true,
        ..edge(from, to)
    };
    let bad = [
        edge("stores", "journal"),
        edge("stores", "lab"),
        edge("journal", "stores"),
        edge("lab", "stores"),
        edge("probes", "reconcile"),
        dev("probes", "reconcile"),
        edge("reconcile", "probes"),
        edge("reconcile", "reports"),
        dev("reconcile", "reports"),
        edge("reports", "driftline"),
        edge("reports", "lab"),
        edge("driftline", "lab"),
        edge("driftline", "tokio-postgres"),
        edge("probes", "aws-sdk-dynamodb"),
        edge("reconcile", "deadpool-postgres"),
        edge("stores", "clap"),
        dev("reports", "anyhow"),
        edge("probes", "anyhow"),
        dev("probes", "clap"),
        edge("lab", "tracing-subscriber"),
        edge("newcomer", "serde"),
    ];
    for edge in bad {
        assert_eq!(breaches(std::slice::from_ref(&edge)).len(), 1, "{edge:?} is not found");
    }
    let good = [
        edge("reports", "probes"),
        dev("journal", "lab"),
        dev("stores", "stores"),
        dev("probes", "anyhow"),
        edge("stores", "tokio-postgres"),
        edge("lab", "tokio-postgres"),
        dev("driftline", "tokio-postgres"),
        edge("driftline", "clap"),
        edge("probes", "awaitable"),
    ];
    assert_eq!(breaches(&good), [""; 0]);
}

/// Folders of `stores/src` that are no store.
const NO_STORES: [&str; 2] = ["cloudwatch", "conformance"];

/// The lines of `text` that name another store's module.
fn foreign_lines<'a>(text: &'a str, others: &[String]) -> Vec<&'a str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.filter(|line| others.iter().any(|other| names_module(line, other)))
        .collect()
}

/// Whether a line has `module` as a part of a path: before `::`, or right behind `crate::`.
fn names_module(line: &str, module: &str) -> bool {
    line.match_indices(module).any(|(at, _)| {
        let (before, behind) = (&line[..at], &line[at + module.len()..]);
        let in_word = |character: char| character.is_alphanumeric() || character == '_';
        let is_whole = !before.ends_with(in_word) && !behind.starts_with(in_word);
        let is_listed = line.trim_start().starts_with("use crate::{");
        is_whole && (behind.starts_with("::") || before.ends_with("crate::") || is_listed)
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn no_store_folder_imports_another() {
    let folder = root().join("stores/src");
    let folders = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
    let stores: Vec<String> = folders
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !NO_STORES.contains(&name.as_str()))
        .collect();
    assert!(stores.len() >= 2, "found only {stores:?}");
    for store in &stores {
        let others: Vec<String> = stores.iter().filter(|other| *other != store).cloned().collect();
        let files = rust_files(&folder.join(store));
        assert!(!files.is_empty());
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let foreign = foreign_lines(&text, &others);
            assert!(
                foreign.is_empty(),
                "{} names another store: {foreign:?}",
                file.display()
            );
        }
    }
}

#[test]
fn a_foreign_import_is_found() {
    let others = ["memory".to_owned(), "s3".to_owned()];
    for line in [
        "use crate::memory::Pair;",
        "use crate::{Key, memory};",
        "    super::super::s3::list()",
        "use crate::s3;",
    ] {
        assert_eq!(foreign_lines(line, &others).len(), 1, "{line}");
    }
    for line in [
        "// as in memory::Pair",
        "let memory = 1;",
        "in_memory::load()",
        "use crate::{Key, Part};",
    ] {
        assert!(foreign_lines(line, &others).is_empty(), "{line}");
    }
}
