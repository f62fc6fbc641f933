"""The documents tell the truth: what they name is there, what they type is accepted, what is generated is current."""

import importlib.util
import re
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from deploy.recording import Line, draw, lines_of
from deploy.reference import PAGES
from hub.app.config import KEYS, load_config
from hub.cli.main import VERBS, build_parser
from hub.core.health import CONDITIONS
from hub.wire.uplink.args import ARGS
from hub.wire.uplink.event import EVENTS

ROOT = Path(__file__).resolve().parents[2]
_OF_OTHERS = {"LICENSE"}
_WITH_INVENTED_PATHS = ("tests/test_names.py", "tests/test_skips.py", "tests/test_floors_guard.py")
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted(ROOT.rglob("*.md"))
    if not set(path.relative_to(ROOT).parts) & {".venv", ".cache", "build", "node_modules", ".pytest_cache"}
}
REFERENCES = [name for name in DOCUMENTS if name.startswith("docs/reference/")]
# A command is what is typed: in a line of a code block, or in a table's or sentence's `...`.
_TYPED = re.compile(r"(?:`|^    )(?:\.venv/bin/)?meterhub ((?:[^`\n\\]|\\\n)+)(?:`|$)", re.MULTILINE)


def commands_in(text: str) -> set[str]:
    """Every `meterhub ...` that a document types; without comments, pipes and placeholders such as `VERB ...`."""
    found = set()
    for command in _TYPED.findall(text):
        words = re.split(r"\s+[#|>]\s?", re.sub(r"\s*\\\n\s*", " ", command))[0].strip()
        words = re.sub(r" FILE\b", " file", words)  # an option's placeholder
        if words and "..." not in words and not re.match(r"[A-Z]", words):
            found.add(words)
    return found


COMMANDS = sorted(
    {command for name, text in DOCUMENTS.items() if name != "CHANGELOG.md" for command in commands_in(text)}
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_meterhub_command_is_accepted(command: str) -> None:
    words = shlex.split(command)
    if words[0].startswith("--"):
        build_parser(list(VERBS))
        return
    assert words[0] in VERBS
    parser = build_parser([words[0]])
    if len(words) == 1:  # a verb's name in a sentence
        return
    if words[-1] == "--help":
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        assert ended.value.code == 0
        return
    if words[:2] == ["headend", "watch"] and len(words) <= 4:  # an option's name in a sentence
        words = [*words, "--ca", "a", "--cert", "b", "--key", "c", "--hub-cert", "d"]
    if words[0] in ("headend", "radio", "bench", "adapters") and len(words) == 2 and not words[1].startswith("-"):
        with pytest.raises(SystemExit):  # an action's name in a sentence: it is there
            parser.parse_args([*words, "--help"])
        return
    parser.parse_args(words)  # SystemExit when it is wrong usage


def test_some_commands_were_found() -> None:
    assert {words.split()[0] for words in COMMANDS} >= {
        "status",
        "doctor",
        "bundle",
        "headend",
        "check-config",
        "radio",
    }


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", DOCUMENTS[name]):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name} points to {target}"
        assert file.is_relative_to(ROOT), f"{name} points out of the repository: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors_of(file.read_text("utf-8")), f"{name} points to {target}#{anchor}"


def anchors_of(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


FOREIGN = {"manifest.py"}  # MicroPython's own word for what goes into a build of it


@pytest.mark.parametrize("name", sorted(set(DOCUMENTS) - {"CHANGELOG.md"}))
def test_every_file_that_is_named_is_there(name: str) -> None:
    page = ROOT / name
    for file in re.findall(r"`((?:hub|drivers|store|tests|deploy|docs)/[A-Za-z0-9_/.\-]*)`", DOCUMENTS[name]):
        if "NAME" in file or "NNN" in file:  # a recipe's placeholder
            continue
        assert (ROOT / file).exists() or (page.parent / file).exists(), f"{name} names {file}"
    known = {
        path.name for folder in ("hub", "drivers", "store", "tests", "deploy") for path in (ROOT / folder).rglob("*.py")
    }
    for file in re.findall(r"`([a-z_0-9]+\.py)`", DOCUMENTS[name]):
        assert file in known or file in FOREIGN, f"{name} names {file}"


def test_every_file_that_code_names_is_there() -> None:
    """In comments, docstrings and messages: a path from the root. What only begins or ends like one is none."""
    path = re.compile(r"(?<![\w/.\-])(?:hub|drivers|store|tests|deploy|docs)/[\w/\-]+\.(?:py|md|sh|sql)\b")
    missing = {
        f"{file.relative_to(ROOT)} names {named}"
        for folder in ("hub", "drivers", "store", "tests", "deploy")
        for file in (ROOT / folder).rglob("*.py")
        if file.relative_to(ROOT).as_posix() not in _WITH_INVENTED_PATHS
        for named in path.findall(file.read_text("utf-8"))
        if not (ROOT / named).exists()
    }
    assert not missing, missing


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_make_target_is_there(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", DOCUMENTS[name], re.MULTILINE))
    assert named <= targets, f"{name}: {named - targets}"


@pytest.mark.parametrize("name", sorted(set(DOCUMENTS) - set(REFERENCES)))
def test_every_configuration_is_a_good_one(name: str, tmp_path: Path) -> None:
    for at, block in enumerate(re.findall(r"```toml\n(.*?)```", DOCUMENTS[name], re.DOTALL)):
        if "[uplink]" not in block:
            continue
        file = tmp_path / f"{at}.toml"
        file.write_text(block)
        load_config(file)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_reference_pages_are_current(name: str) -> None:
    assert (ROOT / "docs/reference" / name).read_text("utf-8") == PAGES[name](), "python -m deploy.reference"


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_module_that_is_run_is_there(name: str) -> None:
    for module in re.findall(r"python -m\s+((?:deploy|tests|hub)[\w.]*)", DOCUMENTS[name]):
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
        assert spec is not None, f"{name} runs python -m {module}"
    for script in re.findall(
        r"(?:^| )(?:\.venv/bin/)?python ((?:deploy|tests)/[\w/]+\.py)", DOCUMENTS[name], re.MULTILINE
    ):
        assert (ROOT / script).exists(), f"{name} runs {script}"


def test_the_hooks_are_what_a_checkout_has() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"], "nothing is fetched"
    for hook in hooks[0]["hooks"]:
        python, _, module, *words = hook["entry"].split()
        assert python == ".venv/bin/python" and importlib.util.find_spec(module)
        assert all((ROOT / word).exists() for word in words if "/" in word)


def test_reference_pages_hold_everything() -> None:
    pages = {name: page() for name, page in PAGES.items()}
    assert all(f"`{key}`" in pages["configuration.md"] for rules in KEYS.values() for key in rules)
    assert all(f"`{code}`" in pages["conditions.md"] for code in CONDITIONS)
    assert all(f"`{event}`" in pages["events.md"] for event in EVENTS)
    assert all(f"## {op}\n" in pages["commands.md"] for op in ARGS)
    assert all(f"## meterhub {verb}\n" in pages["command-line.md"] for verb in VERBS)


def test_a_word_without_its_thing_ends_the_run() -> None:
    from deploy.reference import Incomplete, _must_match

    with pytest.raises(Incomplete, match=r"no sentence for \['b'\]; nothing is called \['c'\]"):
        _must_match("x", {"a", "c"}, {"a", "b"})


def test_the_readme_is_short() -> None:
    assert len(DOCUMENTS["README.md"].splitlines()) <= 150


def test_a_recording_is_drawn_as_it_was_written() -> None:
    pieces = [(0.5, "one \x1b[1mtwo\x1b[0m\r\nth"), (1.5, "ree & <four>\r\n")]
    lines = lines_of(pieces)
    assert lines == [Line(0.5, "one \x1b[1mtwo\x1b[0m"), Line(1.5, "three & <four>")]
    picture = ElementTree.fromstring(draw(lines, "a title"))
    texts = ["".join(each.itertext()) for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["onetwo", "three & <four>"]


def test_the_recording_in_the_readme_is_of_a_run_that_was_fine() -> None:
    picture = (ROOT / "docs/run.svg").read_text("utf-8")
    ElementTree.fromstring(picture)
    for told in ("no number is missing", "verified, chained to the one before", ">fine<"):
        assert told in picture
