#!/bin/sh
# A virtual environment with the versions that a board has, as far as they install on this machine: requirements-dev.lock, and
# what differs from it on armhf (deploy/image/locks/wheels-armhf.txt).
#   deploy/target.sh FOLDER      PYTHON=/usr/bin/python3 (Debian's own) unless it is said otherwise
# What differs here all the same: cffi is Debian's there (python3-cffi-backend) and PyPI's here.
set -eu
cd "$(dirname "$0")/.."
folder=$1
python=${PYTHON:-/usr/bin/python3}
lock=deploy/image/locks/wheels-armhf.txt
stamp=$folder/.locked

if ! cat requirements-dev.lock "$lock" pyproject.toml | cmp -s - "$stamp"; then
    rm -rf "$folder"
    "$python" -m venv "$folder"
    echo "target: installing the board's versions" >&2
    "$folder/bin/python" -m pip -q install --disable-pip-version-check --require-hashes -r requirements-dev.lock
    # "without NAME" is for the image alone. By their hashes these are the wheels that the board gets, to the byte.
    sed '/^without /d' "$lock" >"$folder/differs.txt"
    "$folder/bin/python" -m pip -q install --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        -r "$folder/differs.txt"
    "$folder/bin/python" -m pip -q install --disable-pip-version-check --no-deps --no-build-isolation -e .
    cat requirements-dev.lock "$lock" pyproject.toml >"$stamp"
fi
sed -nE 's/^([a-zA-Z0-9_-]+)==([^ ]+).*/\1 \2/p' "$folder/differs.txt" | while read -r name version; do
    found=$("$folder/bin/python" -c "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))" "$name")
    [ "$found" = "$version" ] || { echo "target: $name is $found here, $version on the board" >&2; exit 1; }
    echo "target: $name $version" >&2
done
"$folder/bin/python" --version >&2
