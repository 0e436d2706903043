//! A real chronyd vouches for its clock: one serves, another follows it. Neither touches the clock of this machine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use probes::{Chrony, ClockBound as _};

/// How long a daemon may take to follow another one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program of Debian's package, or of the copy that `scripts/install.sh test` keeps where the package may not be installed.
fn program(name: &str, folder: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    let kept = cache.map(|cache| cache.join("driftline/chrony").join(folder).join(name));
    let places = [Some(Path::new("/").join(folder).join(name)), kept];
    places
        .into_iter()
        .flatten()
        .find(|place| place.exists())
        .unwrap_or_else(|| panic!("{name} is missing: run `scripts/install.sh test`"))
}

struct Daemon(Child);

impl Daemon {
    fn start(folder: &Path, name: &str, lines: &str) -> Self {
        let config = folder.join(format!("{name}.conf"));
        let own = format!(
            "bindcmdaddress 127.0.0.1\nbindcmdaddress {0}/{name}.sock\npidfile {0}/{name}.pid\n",
            folder.display()
        );
        std::fs::write(&config, format!("{lines}{own}")).unwrap();
        let child = Command::new(program("chronyd", "usr/sbin"))
            .args(["-x", "-d", "-u", &user(), "-f"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail when it ended already.
        let _ended = (self.0.kill(), self.0.wait());
    }
}

/// Who runs this test: the daemon stays that user.
fn user() -> String {
    let told = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_real_chronyd_tells_its_bound_once_it_follows_and_none_before() {
    let folder = tempfile::tempdir().unwrap();
    let [served, of_server, of_client] = [free_port(), free_port(), free_port()];
    let asking = folder.path().join("chronyc");
    let chronyc = program("chronyc", "usr/bin");
    let script = format!(
        "#!/bin/sh\nexec {} -h 127.0.0.1 -p {of_client} \"$@\"\n",
        chronyc.display()
    );
    std::fs::write(&asking, script).unwrap();
    std::fs::set_permissions(&asking, std::fs::Permissions::from_mode(0o755)).unwrap();
    let chrony = Chrony::by(asking.display().to_string());
    assert_eq!(chrony.bound_us().await, None, "nobody is there");

    let client = format!("server 127.0.0.1 port {served} iburst minpoll 0 maxpoll 0\nport 0\ncmdport {of_client}\n");
    let _client = Daemon::start(folder.path(), "client", &client);
    let server =
        format!("port {served}\nbindaddress 127.0.0.1\ncmdport {of_server}\nlocal stratum 1\nallow 127.0.0.1\n");
    let server = Daemon::start(folder.path(), "server", &server);
    let began = Instant::now();
    let bound = loop {
        assert!(began.elapsed() < PATIENCE, "it never follows");
        match chrony.bound_us().await {
            Some(bound) => break bound,
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    assert!((1..1_000_000).contains(&bound), "{bound} us over loopback");
    drop(server);
}
