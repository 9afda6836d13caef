"""What the documentation site takes from the code while it is built, so that it cannot go stale; named in mkdocs.yml.

A page asks for it with a comment, which is invisible where the page is read as it stands:

    <!-- from the code: command line -->          every command with its arguments, from the argument parser
    <!-- from the code: scenario NAME -->         scenarios/NAME.yaml, folded
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ASKED = re.compile(r"^<!-- from the code: (.+?) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for every page."""
    return ASKED.sub(lambda found: answer(found[1]), markdown)


def answer(asked: str) -> str:
    """Markdown for one comment. KeyError or OSError where a page asks for something that is not there."""
    kind, _, name = asked.partition(" ")
    return {"command": lambda _: command_line(), "scenario": scenario}[kind](name)


def scenario(name: str) -> str:
    """A scenario, folded away."""
    text = (ROOT / "scenarios" / f"{name}.yaml").read_text(encoding="utf-8")
    body = "".join(f"    {line}\n" for line in ["```yaml", *text.splitlines(), "```"])
    return f'??? note "scenarios/{name}.yaml"\n\n{body}'


def command_line() -> str:
    """All commands of `testbed`, in the parser's order."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from testbed.cli import _parser

    return "\n".join(_commands(_parser()))


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    (commands,) = (item for item in parser._actions if isinstance(item, argparse._SubParsersAction))
    texts = {item.dest: item.help or "" for item in commands._choices_actions}
    for name, command in commands.choices.items():
        text = texts[name]
        yield f"## testbed {name}\n\n{text[:1].upper()}{text[1:]}.\n"
        yield f"```text\n{_usage(command)}\n```\n"
        actions = [item for item in command._actions if not isinstance(item, argparse._HelpAction)]
        if actions:
            yield "| argument | meaning |\n| --- | --- |"
            yield from (f"| {_names(item)} | {_meaning(item)} |" for item in actions)
            yield ""


def _usage(command: argparse.ArgumentParser) -> str:
    """Its usage without the widths of whoever builds the site."""
    command.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)
    return command.format_usage().removeprefix("usage: ").replace("\n       ", "\n").rstrip()


def _names(item: argparse.Action) -> str:
    metavar = item.metavar or (
        "{" + ",".join(map(str, item.choices)) + "}" if item.choices else item.dest.upper()
    )
    if not item.option_strings:
        return f"`{metavar if item.metavar or item.choices else item.dest}`"
    value = "" if item.nargs == 0 else f" {metavar}"
    return ", ".join(f"`{option}{value}`" for option in item.option_strings)


def _meaning(item: argparse.Action) -> str:
    text = (item.help or "-").replace("|", "\\|")
    named = item.default not in (None, False, argparse.SUPPRESS) and "default" not in text
    default = item.default if isinstance(item.default, str | int | float | Path) else None
    return f"{text} (default: `{default}`)" if named and default is not None else text
