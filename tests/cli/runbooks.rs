//! The runbooks of a region's loss and return, carried out against a lab as they are written: a page that the tool does not keep fails here.
//!
//! A block that is fenced as `console` is a session: `$ ` begins a command, what follows is what it prints, and `exit N` is its exit code (0
//! where none is written). `...` stands for any lines, `<WORD>` for any text. A comment `<!-- lab: ... -->` is what happens around the person
//! who reads the page.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::{PgServer, Proxy};

use crate::fixture::{DATABASE, Finished, Story, driftline, finish};

const TABLES: &str =
    "create table public.payments (id bigint primary key, note text, updated_at timestamptz not null default now());
                      insert into public.payments select i, 'paid ' || i from generate_series(1, 2000) i;
                      create table public.customers (id bigint primary key, name text);
                      insert into public.customers select i, 'customer ' || i from generate_series(1, 500) i";

/// One step of a page.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// What happens around the reader.
    Lab(String),
    /// What the reader types, what it prints, and its exit code.
    Command {
        line: usize,
        command: String,
        printed: Vec<String>,
        code: i32,
    },
}

/// The steps of a page, in order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut is_console = false;
    for (line, text) in (1..).zip(page.lines()) {
        if let Some(what) = text.strip_prefix("<!-- lab: ") {
            steps.push(Step::Lab(what.trim_end_matches("-->").trim().to_owned()));
        } else if text.starts_with("```") {
            is_console = !is_console && text == "```console";
        } else if is_console && let Some(command) = text.strip_prefix("$ ") {
            steps.push(Step::Command {
                line,
                command: command.to_owned(),
                printed: Vec::new(),
                code: 0,
            });
        } else if is_console && let Some(Step::Command { printed, code, .. }) = steps.last_mut() {
            match text.strip_prefix("exit ").and_then(|code| code.parse().ok()) {
                Some(exit) => *code = exit,
                None => printed.push(text.to_owned()),
            }
        }
    }
    steps
}

/// Whether what was printed is what the page shows.
fn agrees(shown: &[String], printed: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.iter().all(|line| line.trim().is_empty()),
        Some((first, rest)) if first.trim() == "..." => {
            (0..=printed.len()).any(|skipped| agrees(rest, &printed[skipped..]))
        }
        Some((first, rest)) => match printed.split_first() {
            Some((line, others)) => line_agrees(first, line) && agrees(rest, others),
            None => false,
        },
    }
}

/// Spaces count once: tables are as wide as what is in them.
fn line_agrees(shown: &str, printed: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, printed) = (words(shown), words(printed));
    let mut parts = shown.split('<');
    let first = parts.next().unwrap_or_default();
    let Some(mut left) = printed.strip_prefix(first) else {
        return false;
    };
    for part in parts {
        // Behind the name of a placeholder.
        let Some((_, text)) = part.split_once('>') else {
            return shown == printed;
        };
        if text.is_empty() {
            left = "";
            continue;
        }
        match left.find(text) {
            Some(at) => left = &left[at + text.len()..],
            None => return false,
        }
    }
    left.is_empty()
}

/// Two regions in which the pages are carried out.
struct Stage {
    story: Story,
    use1: Proxy,
    usw2: Proxy,
    /// The old primary, made anew as a standby of the new one.
    rebuilt: Option<PgServer>,
}

impl Stage {
    async fn start() -> Self {
        let story = Story::start(TABLES).await;
        let use1 = story.pair.proxy_to(story.pair.primary()).expect("start a proxy");
        let usw2 = story.pair.proxy_to(story.pair.standby()).expect("start a proxy");
        let stage = Self {
            story,
            use1,
            usw2,
            rebuilt: None,
        };
        stage.configure(stage.use1.port());
        stage
    }

    fn configure(&self, use1: u16) {
        let authority = self.story.pair.primary();
        let config = self.story.config_of(authority, use1, self.usw2.port());
        let config = config
            .replace("here = \"b\"", "here = \"usw2\"")
            .replace("writers = [\"a\"]", "writers = [\"use1\"]")
            .replace("[site.a]", "[site.use1]")
            .replace("[site.b]", "[site.usw2]")
            .replace("sites.a]", "sites.use1]")
            .replace("sites.b]", "sites.usw2]")
            .replace("connection.db.", "connection.orders-db.")
            .replace("connection = \"db\"", "connection = \"orders-db\"")
            .replace("dataset.shop.", "dataset.payments.");
        self.story.write_config(&format!(
            "{config}table.\"public.payments\" = {{ changed_at = \"updated_at\" }}\n"
        ));
    }

    fn server(&self, site: &str) -> &PgServer {
        match (site, &self.rebuilt) {
            ("use1", Some(rebuilt)) => rebuilt,
            ("use1", None) => self.story.pair.primary(),
            _ => self.story.pair.standby(),
        }
    }

    async fn act(&mut self, what: &str) {
        let words: Vec<&str> = what.split(' ').collect();
        match words[..] {
            ["cut", "replication"] => {
                self.story
                    .pair
                    .wait_replayed(Duration::from_secs(60))
                    .await
                    .expect("the standby catches up");
                self.story.pair.cut();
            }
            ["caught", "up"] => self
                .story
                .pair
                .wait_replayed(Duration::from_secs(60))
                .await
                .expect("the standby catches up"),
            ["lose", "use1"] => self.use1.cut(),
            ["return", "use1"] => {
                self.story.pair.return_old_primary().await.expect("return");
                self.use1.restore();
            }
            ["rebuild", "use1"] => {
                let rebuilt = self.story.pair.rebuild_old_primary().await.expect("rebuild");
                self.configure(rebuilt.port());
                self.rebuilt = Some(rebuilt);
            }
            ["write", site, ref sql @ ..] => self
                .server(site)
                .execute(DATABASE, &sql.join(" "))
                .await
                .expect("write"),
            _ => panic!("no such thing happens in the lab: {what}"),
        }
    }

    fn shell(&self, command: &str) -> Finished {
        let binary = driftline();
        let folder = Path::new(binary.get_program()).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .current_dir(self.story.folder.path())
            .env("PATH", format!("{}:{path}", folder.display()))
            .env("DRIFTLINE_CONFIG", self.story.path("driftline.toml"))
            .env("NO_COLOR", "1")
            .env("PGSSLMODE", "require")
            .env("PGPASSWORD", self.story.pair.primary().password())
            .env_remove("RUST_LOG")
            .env_remove("DRIFTLINE_SITE");
        for (name, site) in [("USE1", "use1"), ("USW2", "usw2")] {
            shell.env(name, self.server(site).url("postgres", DATABASE));
        }
        finish(&mut shell)
    }

    /// Does what a page says.
    async fn carry_out(&mut self, name: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/runbooks/{name}.md"));
        let page = std::fs::read_to_string(&file).expect("read the page");
        let steps = steps(&page);
        let commands = steps.iter().filter(|step| matches!(step, Step::Command { .. })).count();
        assert!(commands >= 3, "{name} holds {commands} commands");
        for step in &steps {
            match step {
                Step::Lab(what) => self.act(what).await,
                Step::Command {
                    line,
                    command,
                    printed,
                    code,
                } => {
                    let finished = self.shell(command);
                    let said = format!("--- stdout\n{}\n--- stderr\n{}", finished.stdout, finished.stderr);
                    assert_eq!(finished.code, *code, "{name}:{line}: `{command}`\n{said}");
                    let lines: Vec<&str> = finished.stdout.lines().collect();
                    assert!(
                        agrees(printed, &lines),
                        "{name}:{line}: `{command}` is said to print\n{}\n{said}",
                        printed.join("\n")
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_lost_returns_and_takes_over_again() {
    let mut stage = Stage::start().await;
    for page in ["region-lost", "old-region-returns", "before-failback", "after-failback"] {
        stage.carry_out(page).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_is_drilled() {
    let mut stage = Stage::start().await;
    stage.carry_out("switchover-drill").await;
}

#[test]
fn a_page_is_read_as_a_person_reads_it() {
    let page = "Words.\n<!-- lab: lose use1 -->\n```console\n$ driftline check\n...\nexit 3\n$ true\n```\n```sh\n$ not run\n```\n";
    let command = |line, command: &str, printed: &[&str], code| Step::Command {
        line,
        command: command.to_owned(),
        printed: printed.iter().map(|&line| line.to_owned()).collect(),
        code,
    };
    assert_eq!(
        steps(page),
        [
            Step::Lab("lose use1".to_owned()),
            command(4, "driftline check", &["..."], 3),
            command(7, "true", &[], 0),
        ]
    );
    let shown = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
    assert!(agrees(
        &shown(&["...", "run <RUN>, 3 keys", "..."]),
        &["a", "run 0199-x,  3 keys", "b", ""]
    ));
    assert!(!agrees(
        &shown(&["...", "run <RUN>, 3 keys", "..."]),
        &["a", "run 0199-x, 4 keys", "b"]
    ));
    assert!(
        !agrees(&shown(&["a"]), &["a", "b"]),
        "what is printed besides is told by `...`"
    );
    assert!(!agrees(&shown(&["a", "b"]), &["a"]));
    assert!(line_agrees("a <X> b <Y>", "a 1 b 2") && !line_agrees("a <X> b", "a 1 b 2"));
}
