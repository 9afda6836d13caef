"""Runs as a user's own programs want them: rows, flat columns, pandas frames, CSV and Parquet.

Everything comes from the records of a result folder; `docs/results.md` lists the columns.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from testbed.crossover import Crossover, crossovers
from testbed.device_record import doubt_of
from testbed.errors import TestbedError
from testbed.files import write_derived
from testbed.record import PARTS, SCHEMA, CellDone, Results, Row, read_results

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped,unused-ignore]  # no stubs; perhaps not even installed

Format = Literal["csv", "parquet"]
Value = str | int | float | bool | None

# Fields of a row that are no single value, and what stands for each in a flat table. ``spans`` is a timeline and stays
# in the records.
_NESTED = ("codec", "source", "values", "spans")


class PackageMissingError(TestbedError):
    """A package that only some users need is not installed."""

    def __init__(self, package: str, what: str) -> None:
        super().__init__(package, what)
        self.package, self.what = package, what

    def __str__(self) -> str:
        return f"{self.what} needs the package {self.package!r}; fix: pip install 'fedsz-testbed[tables]'"


@dataclass(frozen=True)
class Run:
    """One result folder, read.

    Attributes:
        manifest: the content of ``run.json``.
        rows: of complete cells, in the order of measurement.
        cells: the complete cells.
    """

    folder: Path
    manifest: Mapping[str, Any]
    rows: tuple[Row, ...]
    cells: tuple[CellDone, ...]

    @property
    def name(self) -> str:
        """The scenario's name."""
        return str(self.manifest.get("name", self.folder.name))

    def crossovers(self) -> list[Crossover]:
        """At which bandwidth compressing stops paying, for each fleet and codec; computed from the rows."""
        return crossovers(self.rows, doubt_of(self.manifest))

    def records(self) -> Iterator[dict[str, Value]]:
        """Each row as one flat mapping; the keys are `columns`, in this order."""
        names = columns(self.rows)
        for row in self.rows:
            flat = _flat(row)
            yield {name: flat.get(name) for name in names}

    def frame(self) -> DataFrame:
        """All rows as a pandas frame, one column for each of `columns`.

        Raises: PackageMissingError where pandas is not installed.
        """
        pandas = package("pandas", "a frame")
        names = columns(self.rows)
        return pandas.DataFrame(list(self.records()), columns=names)


def load(folder: str | Path) -> Run:
    """Read a result folder.

    Raises:
        NoRunError: no run there.
        RecordError: a damaged record, or one of a newer schema (NewerSchemaError).
    """
    results: Results = read_results(folder)
    return Run(results.folder, results.manifest, results.rows, results.cells)


def columns(rows: Iterable[Row]) -> list[str]:
    """Names of the columns: `Row`'s plain fields in their order, the codec, the sources, then the sweep's axes.

    Axes differ from scenario to scenario: ``value:uplink.rate`` holds the axis value with its unit, as text.
    """
    plain = [item.name for item in fields(Row) if item.name not in _NESTED]
    axes = dict.fromkeys(axis for row in rows for axis in row.values)
    return [
        "schema",
        *plain,
        "codec",
        "codec_mode",
        "codec_bound",
        *(f"{part}_source" for part in PARTS),
        *(f"value:{axis}" for axis in axes),
    ]


def export(folder: str | Path, form: Format, to: Path | None = None) -> Path:
    """Write the rows of *folder* as a table beside them (``rounds.csv``, ``rounds.parquet``) or to *to*.

    An older table is replaced: it can be computed again from the records.

    Raises: PackageMissingError where ``parquet`` is asked for and pyarrow is not installed; as `load`.
    """
    run = load(folder)
    path = to if to is not None else run.folder / f"rounds.{form}"
    write_derived(path, to_csv(run) if form == "csv" else to_parquet(run))
    return path


def to_csv(run: Run) -> str:
    """RFC 4180 with one header line; an empty field is a missing value, numbers keep every digit."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns(run.rows), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(run.records())
    return stream.getvalue()


def to_parquet(run: Run) -> bytes:
    """One table; the file's metadata hold the schema's version and the whole manifest (``testbed.manifest``)."""
    pyarrow = package("pyarrow", "Parquet")
    parquet = package("pyarrow.parquet", "Parquet")
    names = columns(run.rows)
    table = pyarrow.Table.from_pylist(
        list(run.records()),
        schema=pyarrow.schema([(name, _arrow_type(pyarrow, name)) for name in names]),
    )
    table = table.replace_schema_metadata(
        {"testbed.schema": str(SCHEMA), "testbed.manifest": json.dumps(dict(run.manifest))}
    )
    stream = io.BytesIO()
    parquet.write_table(table, stream)
    return stream.getvalue()


def _flat(row: Row) -> dict[str, Value]:
    flat: dict[str, Value] = {"schema": SCHEMA}
    flat |= {item.name: getattr(row, item.name) for item in fields(Row) if item.name not in _NESTED}
    flat |= {"codec": row.codec.id, "codec_mode": row.codec.mode, "codec_bound": row.codec.bound}
    flat |= {f"{part}_source": row.source.get(part) for part in PARTS}
    flat |= {f"value:{axis}": text for axis, text in row.values.items()}
    return flat


# By the fields' annotations, so that a column of nothing but missing values has its type all the same.
_ANNOTATIONS = {item.name: str(item.type) for item in fields(Row)} | {"schema": "int", "codec_bound": "float"}
_ARROW = {"int": "int64", "float": "float64", "bool": "bool_"}


def _arrow_type(pyarrow: Any, name: str) -> Any:
    plain = _ANNOTATIONS.get(name, "str").removesuffix(" | None")
    return getattr(pyarrow, _ARROW.get(plain, "string"))()


def package(name: str, what: str) -> Any:
    """An optional package, imported; PackageMissingError, which says that *what* needs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PackageMissingError(name.split(".")[0], what) from error
