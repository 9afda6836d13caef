"""The result folder of a run: appended one line at a time, never overwritten, readable after any kill.

``run.json`` says what ran and on what (`testbed.manifest`), ``rounds.jsonl`` holds a `Row` a line, ``cells.jsonl`` a
line for each cell that is complete. A cell whose line is missing there was cut off: its rows do not count, and resuming
cuts them away and measures it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.errors import NewerSchemaError, NoRunError, RecordError, ResultsExistError
from testbed.files import clear_drafts, naming, sync_folder, write_once
from testbed.row import PARTS, SCHEMA, CodecUsed, Row, row_from_dict

__all__ = [
    "CELLS",
    "MANIFEST",
    "PARTS",
    "ROUNDS",
    "SCHEMA",
    "CellDone",
    "CodecUsed",
    "Results",
    "Row",
    "RowWriter",
    "add_manifest",
    "create_folder",
    "read_results",
]

MANIFEST = "run.json"
ROUNDS = "rounds.jsonl"
CELLS = "cells.jsonl"
PAYLOADS = "payloads"
CHECKPOINTS = "checkpoints"
_APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class CellDone:
    """A complete cell.

    Attributes:
        rows: how many rows of ``rounds.jsonl`` belong to it.
        wall_s: wall-clock seconds that it took in all.
        transfer_wall_s, transfer_emulated_s: wall-clock seconds with a flow in flight, and what they stand for.
        emulated_s: sum of its rounds' lengths.
        notes: whatever else the engine wants kept (lag, link counters); plain data.
    """

    cell: int
    rows: int
    wall_s: float = 0.0
    transfer_wall_s: float = 0.0
    transfer_emulated_s: float = 0.0
    emulated_s: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """What a result folder holds: the manifest, the complete cells and their rows, in the order of writing."""

    folder: Path
    manifest: Mapping[str, Any]
    cells: tuple[CellDone, ...]
    rows: tuple[Row, ...]


def create_folder(path: Path, manifest: Mapping[str, Any]) -> None:
    """Start a result folder. ResultsExistError if it holds a run already."""
    ours = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    if (path / ROUNDS).exists():
        raise ResultsExistError(str(path))
    try:
        write_once(path / MANIFEST, _dump({"schema": SCHEMA, **manifest}, indent=2) + "\n")
    except ResultsExistError:
        raise ResultsExistError(str(path)) from None  # the folder, not the file, is what the user named
    except OSError:
        if ours:
            with contextlib.suppress(OSError):
                path.rmdir()  # nothing was measured: leave nothing behind
        raise
    for name in (ROUNDS, CELLS):
        (path / name).touch(exist_ok=False)
    sync_folder(path)


def add_manifest(path: Path, manifest: Mapping[str, Any]) -> Path:
    """Keep what a resumed run ran on, beside the first manifest, as ``run-2.json`` and so on."""
    number = 2
    while (path / f"run-{number}.json").exists():
        number += 1
    target = path / f"run-{number}.json"
    write_once(target, _dump({"schema": SCHEMA, **manifest}, indent=2) + "\n")
    return target


class RowWriter:
    """Appends rows; one process at a time (the file is locked for as long as this is open).

    Opening cuts away what an interrupted cell left. ``done`` then holds the cells that need not be measured again.

    Raises:
        RecordError: another process writes here, or a complete line cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.done: dict[int, CellDone] = {}

    def __enter__(self) -> Self:
        # Created here if need be: a run may have died between its manifest and its files.
        self._rows = os.open(self._folder / ROUNDS, _APPENDING, 0o644)
        try:
            self._cells = os.open(self._folder / CELLS, _APPENDING, 0o644)
        except BaseException:
            os.close(self._rows)
            raise
        try:
            self._lock()
            self._cut()
            for folder in (self._folder, self._folder / PAYLOADS, self._folder / CHECKPOINTS):
                clear_drafts(folder)
        except BaseException:
            self._close()
            raise
        self._open: Counter[int] = Counter()
        return self

    def write(self, row: Row) -> None:
        """Append one row of a cell that is being measured."""
        if row.cell in self.done:
            raise RecordError(f"cell {row.cell}", "is complete; a row would be doubled")
        with naming(self._folder / ROUNDS):
            _append(self._rows, row.to_dict())
        self._open[row.cell] += 1

    def end_cell(self, done: CellDone) -> None:
        """All rows of the cell are written: make them and the fact last."""
        if self._open[done.cell] != done.rows:
            written = self._open[done.cell]
            raise RecordError(f"cell {done.cell}", f"says {done.rows} rows, {written} were written")
        with naming(self._folder / CELLS):
            os.fsync(self._rows)
            _append(self._cells, {"schema": SCHEMA, **asdict(done)})
            os.fsync(self._cells)
        self.done[done.cell] = done

    def _lock(self) -> None:
        try:
            fcntl.flock(self._rows, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecordError(str(self._folder), "another sweep writes here at this moment") from error

    def _cut(self) -> None:
        cells_path, rows_path = self._folder / CELLS, self._folder / ROUNDS
        complete = 0
        for end, where, data in _lines(cells_path):
            cell = _cell_from_dict(data, where)
            self.done[cell.cell] = cell
            complete = end
        os.ftruncate(self._cells, complete)
        keep, gap = 0, ""
        for end, where, data in _lines(rows_path):
            if data.get("cell") in self.done:
                if gap:
                    raise RecordError(gap, "rows of an interrupted cell lie between complete ones")
                keep = end
            else:
                gap = gap or where
        os.ftruncate(self._rows, keep)
        os.fsync(self._rows)
        os.fsync(self._cells)

    def _close(self) -> None:
        os.close(self._cells)
        os.close(self._rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()


def read_manifest(folder: Path) -> dict[str, Any]:
    """``run.json`` of a result folder. Raises: NoRunError, NewerSchemaError."""
    path = folder / MANIFEST
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        why = f"it holds no {MANIFEST}" if folder.is_dir() else "there is no such folder"
        raise NoRunError(str(folder), why) from error
    except ValueError as error:
        raise NoRunError(str(folder), f"its {MANIFEST} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(found := manifest.get("schema"), int):
        raise NoRunError(str(folder), f"its {MANIFEST} says no schema; it is not the manifest of a run")
    if found > SCHEMA:
        raise NewerSchemaError(str(path), found, SCHEMA)
    return manifest


def read_results(folder: str | Path) -> Results:
    """Everything a folder holds about complete cells.

    Raises:
        NewerSchemaError: written by a later build.
        RecordError: a line that is not one of ours, or a cell with rows missing; says file and line.
        NoRunError: no run there.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    cells = {data["cell"]: _cell_from_dict(data, where) for _, where, data in _lines(folder / CELLS)}
    rows = []
    counts: Counter[int] = Counter()
    for _, where, data in _lines(folder / ROUNDS):
        row = row_from_dict(data, where)
        if row.cell in cells:
            rows.append(row)
            counts[row.cell] += 1
    for number, cell in cells.items():
        if counts[number] != cell.rows:
            raise RecordError(
                f"{folder / ROUNDS}", f"cell {number} has {counts[number]} rows, {CELLS} says {cell.rows}"
            )
    return Results(folder, manifest, tuple(cells.values()), tuple(rows))


def _lines(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(offset after the line, place, data) of each complete line; a torn last one (no newline) is dropped."""
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            where = f"{path}:{number}"
            offset += len(line)
            try:
                data = json.loads(line)
            except ValueError as error:
                raise RecordError(where, f"not JSON: {error}") from error
            if not isinstance(data, dict):
                raise RecordError(where, "a line is one JSON object")
            yield offset, where, data


def _cell_from_dict(data: Mapping[str, Any], where: str) -> CellDone:
    schema = data.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise NewerSchemaError(where, schema if isinstance(schema, int) else 0, SCHEMA)
    known = {item.name for item in fields(CellDone)}
    try:
        return CellDone(**{name: value for name, value in data.items() if name in known})
    except TypeError as error:
        raise RecordError(where, f"not a cell: {error}") from error


def _append(descriptor: int, data: Mapping[str, Any]) -> None:
    line = (_dump(data) + "\n").encode("utf-8")
    view = memoryview(line)
    while view:  # a full disk raises OSError; a signal may shorten a write
        view = view[os.write(descriptor, view) :]


def _dump(data: Mapping[str, Any], indent: int | None = None) -> str:
    separators = (",", ":") if indent is None else None
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
