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
    command -v node >/dev/null && command -v npm >/dev/null || need_packages nodejs npm || true
fi
