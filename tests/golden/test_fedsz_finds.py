"""Payloads that a fuzz run once broke a promise with; see tests/fuzz_fedsz.py. Each is named after what it found."""

from __future__ import annotations

from pathlib import Path

import fuzz_fedsz
import pytest

FINDS = sorted((Path(__file__).parent / "fedsz-finds").glob("*.bin"))


def test_the_finds_are_there() -> None:
    assert FINDS


@pytest.mark.parametrize("find", FINDS, ids=lambda find: find.stem)
def test_an_old_find_ends_in_our_error_or_an_honest_state(find: Path) -> None:
    """`attempt` raises whatever is neither."""
    references = {id(held): held for _, held in fuzz_fedsz.seeds(["sz3"])}
    for held in references.values():
        assert fuzz_fedsz.attempt(find.read_bytes(), held)
