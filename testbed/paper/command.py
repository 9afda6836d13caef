"""`testbed paper NAME`: one experiment of the paper, into one folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from testbed.paper import accuracy_outcome, communication, cost, errors, lossless, ratio, scaling
from testbed.paper.learner import Found, find
from testbed.paper.outcome import Outcome, write
from testbed.paper.settings import Paper, load, locate

Tell = Callable[[str], None]
RESULTS = Path("results") / "paper"

_LEARNING: dict[str, Callable[..., Outcome]] = {
    "ratio": ratio.run,
    "accuracy": accuracy_outcome.run,
    "lossless": lossless.run,
    "cost": cost.run,
    "errors": errors.run,
}
_SWEEPING: dict[str, Callable[..., Outcome]] = {"communication": communication.run, "scaling": scaling.run}


def experiment(
    paper: Paper,
    folder: Path,
    *,
    full: bool = False,
    data_dir: Path | None = None,
    tell: Tell = lambda _: None,
) -> tuple[Outcome, list[Path]]:
    """Run *paper* at one of its sizes and write everything; what was found, and the files.

    Args:
        data_dir: where data sets lie, as `load_dataset` takes it.

    Raises: LearningError of data that is missing altogether or damaged.
    """
    size = paper.size(full)
    folder.mkdir(parents=True, exist_ok=True)
    if paper.experiment in _SWEEPING:
        outcome = _SWEEPING[paper.experiment](size, folder, tell, data_dir)
    else:
        found: Found = find(size.learners, data_dir)
        for line in found.missing:
            tell(f"missing: {line}")
        outcome = _LEARNING[paper.experiment](size, found, folder, tell)
    about = {
        "size": paper.label(full),
        "claim": paper.claim,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.is_available(),
        "settings": _settings(size),
    }
    return outcome, write(outcome, folder, paper.experiment, about)


def _settings(size: object) -> str:
    """The settings as text: they hold scenarios, whose values are no plain data."""
    return repr(size) if not hasattr(size, "learners") else repr(asdict(size))  # type: ignore[call-overload]


def paper(options: argparse.Namespace) -> int:
    """`testbed paper`: run, write, print."""
    found = load(locate(options.experiment))
    folder = options.out or RESULTS / (found.experiment + ("-full" if options.full else ""))
    outcome, files = experiment(
        found,
        folder,
        full=options.full,
        data_dir=options.data_dir,
        tell=lambda text: print(text, file=sys.stderr),
    )
    print(outcome.markdown())
    print(f"results in {folder}: {', '.join(path.name for path in files)}")
    return 0
