#!/bin/sh
# Sets up the development environment: .venv with the locked packages, and, for `test`, what the tests run against.
#   deploy/setup.sh run    what `make run` needs      deploy/setup.sh test    that, mosquitto and node for `make test`
# Needs python3 >= 3.11. Where a Debian package is missing it is installed when we are root, else named in one line.
set -eu
cd "$(dirname "$0")/.."
want=${1:-run}
python=${PYTHON:-python3}

say() { printf '%s\n' "setup: $*" >&2; }

need_packages() { # names of Debian packages
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "installing $*"
        apt-get -qq update >/dev/null || true
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null && return 0
    fi
    say "missing: please type: sudo apt-get install $*"
    return 1
}

get_provider() {
    found=$(find /usr/lib/*/ossl-modules .cache/pkcs11-provider -name pkcs11.so 2>/dev/null | head -n 1)
    [ -z "$found" ] || return 0
    command -v apt-get >/dev/null || return 1
    if apt-cache policy pkcs11-provider | grep -q 'Candidate: [0-9]'; then
        need_packages pkcs11-provider
        return
    fi
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
    [ -n "$mirror" ] || return 1
    work=$PWD/.cache/apt
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    printf 'deb [signed-by=%s] %s bookworm-backports main\n' "$key" "$mirror" >"$work/sources.list"
    set -- -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache"
    say "fetching pkcs11-provider"
    apt-get "$@" update >/dev/null 2>&1 && (cd "$work" && apt-get "$@" download pkcs11-provider >/dev/null 2>&1) &&
        dpkg -x "$work"/pkcs11-provider_*.deb .cache/pkcs11-provider
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

command -v "$python" >/dev/null || need_packages python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "python 3.11 or newer is needed"; exit 1; }

if [ ! -x .venv/bin/pip ]; then
    rm -rf .venv
    # Debian splits ensurepip off: without python3-venv a venv is made half and then given up.
    "$python" -m venv .venv >/dev/null 2>&1 || { rm -rf .venv; need_packages python3-venv && "$python" -m venv .venv; }
fi

stamp=.venv/.locked
if ! cat requirements-dev.lock pyproject.toml | cmp -s - "$stamp"; then
    say "installing the locked Python packages"
    log=.venv/install.log
    {
        .venv/bin/pip -q install --disable-pip-version-check --require-hashes -r requirements-dev.lock &&
            .venv/bin/pip -q install --disable-pip-version-check --no-deps --no-build-isolation -e .
    } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    cat requirements-dev.lock pyproject.toml >"$stamp"
fi

if [ "$want" = test ]; then
    PATH=$PATH:/usr/sbin
    command -v mosquitto >/dev/null || need_packages mosquitto
    # Bundles are made and judged by the real RAUC.
    command -v rauc >/dev/null && command -v unsquashfs >/dev/null || need_packages rauc squashfs-tools
    # A key in hardware: softhsm2 plays the chip. OpenSSL's provider is in Debian 12's backports alone: it is unpacked
    # here from the mirror that this machine uses, and nothing of the system is touched.
    command -v softhsm2-util >/dev/null || need_packages softhsm2 || true
    command -v swtpm >/dev/null && ls /usr/lib/*/pkcs11/libtpm2_pkcs11.so >/dev/null 2>&1 ||
        need_packages swtpm libtpm2-pkcs11-1 libtss2-tcti-swtpm0 || true
    # The parts of the image that need no board: media, device trees, signatures with keys of a token.
    command -v mkimage >/dev/null && command -v dtc >/dev/null && command -v sfdisk >/dev/null &&
        ls /usr/lib/*/engines-3/pkcs11.so >/dev/null 2>&1 ||
        need_packages u-boot-tools device-tree-compiler fdisk libengine-pkcs11-openssl || true
    get_provider || say "OpenSSL's pkcs11-provider could not be had: the tests of keys in hardware will be skipped"
    # Field access is tried with a real sshd, which is unpacked here: installing it would start one on this machine.
    get_sshd || say "openssh-server could not be had: the test of field access will be skipped"
    command -v node >/dev/null && command -v npm >/dev/null || need_packages nodejs npm || true
fi
