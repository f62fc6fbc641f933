"""Builds the releases that the story needs (kept in build/image-test, so a second run builds less), and one site."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.image.board import load_board
from deploy.image.bundle import make_bundle
from deploy.image.signing import make_test_keys
from tests.image.site import Site

ROOT = Path(__file__).resolve().parents[2]
BOARD = os.environ.get("IMAGE_TEST_BOARD", "qemu-virt-armhf")
BUILT = ROOT / "build" / "image-test" / BOARD
EPOCH_S = 1_790_000_000


@dataclass(frozen=True)
class Releases:
    """What the utility has in store. first: a build's folder; the others: updates, each a bundle."""

    first: Path
    second: Path
    third: Path
    broken: Path
    strange: Path
    wrong_board: Path


@pytest.fixture(scope="module")
def failed_before(request: pytest.FixtureRequest) -> int:
    """How many tests had failed when this story began."""
    return request.session.testsfailed


@pytest.fixture
def the_story_so_far(request: pytest.FixtureRequest, failed_before: int) -> None:
    """What follows a failure in the same story would only fail for its sake."""
    if request.session.testsfailed > failed_before:
        pytest.skip("an earlier part of the story failed")


@pytest.fixture(scope="session")
def release() -> Path:
    """What the factory writes: a build's folder."""
    return _build("1.0.0")


@pytest.fixture(scope="session")
def closed_release() -> Path:
    """The same without a root shell: what goes to homes."""
    return _build("1.0.0", folder="closed")


@pytest.fixture(scope="session")
def evk_release() -> Path:
    """The same for NXP's board."""
    return _build("1.0.0", board="imx6ul-evk")


@pytest.fixture(scope="session")
def releases(release: Path) -> Releases:
    keys = BUILT / "1.0.0" / "keys"
    first = release
    second = _build("2.0.0", "--keys", str(keys))
    broken = _build("3.0.0", "--keys", str(keys), "--overlay", str(_broken_hub()))
    board = load_board(BOARD)
    kernel, rootfs = second / "kernel.fit", second / "rootfs.img"
    ours, strangers = make_test_keys(keys), make_test_keys(BUILT / "stranger")
    bundles = []
    for name, of, keyring in (
        ("third", board, ours),
        ("strange", board, strangers),
        ("wrong", load_board("imx6ul-evk"), ours),
    ):
        bundles.append(make_bundle(of, kernel, rootfs, "2.1.0", keyring, EPOCH_S, BUILT, BUILT / f"{name}.raucb"))
    return Releases(first, _bundle(second), bundles[0], _bundle(broken), bundles[1], bundles[2])


def _build(version: str, *more: str, board: str = BOARD, folder: str = "") -> Path:
    """`folder`: of a release as it is shipped; else the serial console is root's, for the tests."""
    out = ROOT / "build" / "image-test" / board / (folder or version)
    words = [sys.executable, "deploy/build.py", "--board", board, "--version", version, "--out", str(out)]
    console = [] if folder else ["--console-root"]
    subprocess.run([*words, *console, *more], cwd=ROOT, check=True)
    return out


def _bundle(build: Path) -> Path:
    return next((build / "update").glob("*.raucb"))


def _broken_hub() -> Path:
    """A release whose hub ends as soon as it is started."""
    command = BUILT / "broken" / "usr/bin/meterhub"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text("#!/bin/sh\nexit 1\n")
    command.chmod(0o755)
    return BUILT / "broken"


@pytest.fixture(scope="module")
def site(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"), releases.first)
    yield site
    site.close()


@pytest.fixture(scope="module")
def short_site(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site of its own for what needs one release only."""
    site = Site(tmp_path_factory.mktemp("site"), release)
    yield site
    site.close()
