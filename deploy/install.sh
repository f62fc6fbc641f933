#!/bin/sh
# Installs meterhub on a Debian 12 board that has no image yet: deploy/install.sh [PREFIX]   (default: /usr/local)
# The locked runtime packages and meterhub go into PREFIX/lib/meterhub, the command into PREFIX/bin, the unit into
# PREFIX/lib/systemd/system, tab completion and the man page into PREFIX/share. With PREFIX outside /usr nothing of the system is touched.
set -eu
cd "$(dirname "$0")/.."
prefix=${1:-/usr/local}
python=${PYTHON:-python3}
home=$prefix/lib/meterhub

completions=$prefix/share/bash-completion/completions
mkdir -p "$prefix/bin" "$prefix/lib/systemd/system" "$completions" "$prefix/share/man/man1"
"$python" -m venv "$home" || { echo "install: please type: apt-get install python3-venv" >&2; exit 1; }
"$home/bin/pip" -q install --disable-pip-version-check --require-hashes -r requirements.lock
"$home/bin/pip" -q install --disable-pip-version-check --no-deps .
ln -sf "$home/bin/meterhub" "$prefix/bin/meterhub"
cp deploy/shell/meterhub.bash "$completions/meterhub"
cp deploy/shell/meterhub.1 "$prefix/share/man/man1/meterhub.1"
for unit in meterhub.service meterhub-factory-reset.service; do
    sed "s|/usr/bin/meterhub|$prefix/bin/meterhub|" "deploy/systemd/$unit" >"$prefix/lib/systemd/system/$unit"
done

case $prefix in
/usr | /usr/*)
    id meterhub >/dev/null 2>&1 || useradd --system --home-dir /var/lib/meterhub --shell /usr/sbin/nologin meterhub
    getent group meterhub-field >/dev/null || groupadd --system meterhub-field
    mkdir -p /etc/meterhub
    echo "install: put hub.toml, ca.pem, hub.pem and hub.key into /etc/meterhub, then: systemctl enable --now meterhub"
    ;;
esac
