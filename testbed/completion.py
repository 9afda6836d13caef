"""The shell's completion of the command line: commands, options, choices, and files where a path is expected."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from testbed.cli import _parser
from testbed.results import package


def script(shell: str) -> str:
    """What ``eval`` takes in a *shell* (bash or zsh) in which completion works. Raises: as `package`, without shtab."""
    shtab = package("shtab", "completion")
    parser = _parser()
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # a folder is completed as a file's way
    return str(shtab.complete(parser, shell=shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from _actions(command)
