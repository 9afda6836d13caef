"""What an experiment found, and how it is written down: JSON, CSV, Markdown and pictures."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from testbed import manifest
from testbed.files import write_derived
from testbed.plot import save

SCHEMA = 1


@dataclass(frozen=True)
class Table:
    """A table for readers, *cells* as text; its raw values lie in `Outcome.data`."""

    title: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """As GitHub shows it."""
        lines = [
            f"**{self.title}**",
            "",
            f"| {' | '.join(self.columns)} |",
            f"|{' --- |' * len(self.columns)}",
        ]
        lines += [f"| {' | '.join(row)} |" for row in self.cells]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Verdict:
    """One claim of the paper beside what was measured.

    Attributes:
        paper, ours: figures; ours with its interval.
        verdict: ``agrees``, ``does not agree`` or ``undecided``, and why.
    """

    claim: str
    paper: str
    ours: str
    verdict: str


@dataclass(frozen=True)
class Outcome:
    """Everything an experiment found.

    Attributes:
        data: name -> raw records, one CSV each.
        figures: name -> picture.
        missing: which rows are not there, why, and the command that helps.
        notes: what a reader must know before believing the tables.
    """

    verdicts: tuple[Verdict, ...]
    tables: tuple[Table, ...]
    data: Mapping[str, Sequence[Mapping[str, Any]]]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Verdicts, tables, what is missing and notes."""
        rows = tuple((v.claim, v.paper, v.ours, v.verdict) for v in self.verdicts)
        parts = []
        if rows:
            parts.append(Table("The paper's claims", ("claim", "paper", "ours", "verdict"), rows).markdown())
        parts += [table.markdown() for table in self.tables]
        if self.missing:
            parts.append("Missing rows:\n\n" + "\n".join(f"- {line}" for line in self.missing) + "\n")
        if self.notes:
            parts.append("\n".join(f"- {line}" for line in self.notes) + "\n")
        return "\n".join(parts)


def write(outcome: Outcome, folder: Path, name: str, about: Mapping[str, Any]) -> list[Path]:
    """Write ``NAME.json``, ``NAME.md``, a CSV for each of the data's tables and two files for each picture.

    Args:
        about: what ran (size, settings); machine, versions and commit are added.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "schema": SCHEMA,
        "experiment": name,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": manifest.machine(),
        "versions": manifest.versions(),
        "source": manifest.source(),
        **about,
        "verdicts": [asdict(verdict) for verdict in outcome.verdicts],
        "missing": list(outcome.missing),
        "notes": list(outcome.notes),
        "data": {key: [_plain(row) for row in rows] for key, rows in outcome.data.items()},
    }
    paths = [folder / f"{name}.json", folder / f"{name}.md"]
    write_derived(paths[0], json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    write_derived(paths[1], outcome.markdown())
    for key, rows in outcome.data.items():
        paths.append(folder / f"{key}.csv")
        write_derived(paths[-1], _csv(rows))
    for key, figure in outcome.figures.items():
        paths += save(figure, folder, key)
    return paths


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: _text(value) for key, value in _plain(row).items()} for row in rows])
    return stream.getvalue()


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: null."""
    return {key: _finite(value) for key, value in row.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def mean_interval(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, 95 % interval by Student's t (NaN for one value) and sample standard deviation."""
    from scipy.stats import t

    found = np.asarray(values, np.float64)
    mean = float(found.mean())
    if len(found) < 2:
        return mean, math.nan, math.nan, math.nan
    deviation = float(found.std(ddof=1))
    half = float(t.ppf(0.975, len(found) - 1)) * deviation / len(found) ** 0.5
    return mean, mean - half, mean + half, deviation


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Of the mean's 95 % interval; one value, whose interval nobody knows, is both."""
    mean, low, high, _ = mean_interval(values)
    return (low, high) if math.isfinite(low) else (mean, mean)


def interval_text(values: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """``6.53 [6.48, 6.58]``; without brackets for one value, whose interval nobody knows."""
    mean, low, high, _ = mean_interval(values)
    brackets = f" [{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(low) else ""
    return f"{mean:.{digits}f}{brackets}{unit}"
