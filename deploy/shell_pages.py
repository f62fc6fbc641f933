"""Tab completion and man page of `meterhub`, written from its parsers: `python -m deploy.shell_pages` (make docs).

What is installed (deploy/install.sh, the image) are the files, so that nothing is generated on a board. Completion by
shtab, for bash; the man page in roff (man(7)), a section a verb.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from hub.cli.main import VERBS, build_parser

FOLDER = Path(__file__).with_name("shell")


def completion() -> str:
    """For bash: /usr/share/bash-completion/completions/meterhub."""
    import shtab

    text: str = shtab.complete(build_parser(list(VERBS)), shell="bash")
    return text


def man_page() -> str:
    """meterhub(1)."""
    parser = build_parser(list(VERBS))
    lines = [
        '.TH METERHUB 1 "" "meterhub" "meterhub"', ".SH NAME", r"meterhub \- the hub inside a smart electricity meter",
        ".SH SYNOPSIS", r".B meterhub", r".I VERB", r"[\fIOPTIONS\fR]", ".SH EXIT STATUS",
        "0 fine, 1 a problem found, 2 wrong usage, 3 no daemon.", ".SH VERBS",
    ]  # fmt: skip
    for words, each in _parsers(parser, ()):
        if words:
            lines += [f".SS meterhub {_roff(' '.join(words))}", _roff(each.description or "")]
            lines += [line for action in each._actions for line in _option(action)]
    lines += [
        ".SH FILES", ".TP", "/etc/meterhub/hub.toml", "the configuration; another by --config or $METERHUB_CONFIG",
        ".SH ENVIRONMENT", ".TP", "PAGER", "what long tables go through; less if it is not set",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _parsers(
    parser: argparse.ArgumentParser, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from _parsers(below, (*words, name))


def _option(action: argparse.Action) -> list[str]:
    if isinstance(action, argparse._SubParsersAction) or "--help" in action.option_strings:
        return []
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    value = action.metavar or choices or action.dest.upper()
    value = "" if action.nargs == 0 else str(value)
    names = ", ".join(action.option_strings)
    text = (action.help or "").replace(
        "%(default)s", "/etc/meterhub/hub.toml" if "--config" in names else str(action.default)
    )
    return [
        ".TP",
        rf"\fB{_roff(names)}\fR \fI{_roff(value)}\fR" if names else rf"\fI{_roff(value)}\fR",
        _roff(text) or r"\&",
    ]


def _roff(text: str) -> str:
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("%%", "%")
    return r"\&" + text if text[:1] in (".", "'") else text


FILES = {"meterhub.bash": completion, "meterhub.1": man_page}


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in FILES.items():
        (folder / name).write_text(made(), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
