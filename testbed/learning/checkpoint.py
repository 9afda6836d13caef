"""The global model between rounds, on disk, so that a killed run goes on where it was. safetensors: never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from testbed.files import write_derived
from testbed.learning.errors import CheckpointError

CHECKPOINT_SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """A global model and where the run stood.

    Attributes:
        state: names in the model's order, exact dtypes and shapes.
        round: rounds completed; the next one has this number when rounds count from 0.
        about: what the run must agree with to go on from here (model, data, seed, ...), JSON values.
        progress: whatever else going on takes, JSON values.
        others: further models by name (what clients hold), like *state*.
    """

    state: Mapping[str, np.ndarray]
    round: int
    about: Mapping[str, Any] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, file: Path) -> None:
    """Write *checkpoint*, replacing an older one in one step: a kill leaves the old or the new one, whole."""
    meta = {
        "schema": CHECKPOINT_SCHEMA,
        "round": checkpoint.round,
        "about": dict(checkpoint.about),
        "progress": dict(checkpoint.progress),
        "names": list(checkpoint.state),  # safetensors keeps its own order
        "others": {key: list(state) for key, state in checkpoint.others.items()},
    }
    arrays = {name: _plain(values) for name, values in checkpoint.state.items()}
    for key, state in checkpoint.others.items():
        arrays |= {_other(key, name): _plain(values) for name, values in state.items()}
    write_derived(file, save(arrays, metadata={"checkpoint": json.dumps(meta, sort_keys=True)}))


def _plain(values: np.ndarray) -> np.ndarray:
    """Contiguous; `ascontiguousarray` alone makes a 0-d array 1-d, and the shape is part of the state."""
    return np.ascontiguousarray(values).reshape(np.shape(values))


def _other(key: str, name: str) -> str:
    return f"{key}/{name}"  # no tensor of a model has a slash in its name


def load_checkpoint(file: Path, about: Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        about: what this run is; None accepts any.

    Raises: FileNotFoundError; CheckpointError where the file is damaged, of a newer schema, or of another run.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint at {file}")
    try:
        with safe_open(file, framework="numpy") as stored:
            meta = json.loads((stored.metadata() or {}).get("checkpoint", "{}"))
            if meta.get("schema") != CHECKPOINT_SCHEMA:
                found = meta.get("schema")
                raise CheckpointError(
                    str(file), f"checkpoint schema {found!r}; this build reads {CHECKPOINT_SCHEMA}"
                )
            state = {name: stored.get_tensor(name) for name in meta["names"]}
            others = {
                key: {name: stored.get_tensor(_other(key, name)) for name in names}
                for key, names in meta.get("others", {}).items()
            }
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(str(file), f"cannot be read: {error}") from error
    if about is not None:
        for key in sorted(about.keys() | meta["about"].keys()):
            here, there = about.get(key), meta["about"].get(key)
            if here != there:
                raise CheckpointError(
                    str(file), f"belongs to another run: {key} is {there!r} there, {here!r} here"
                )
    return Checkpoint(state, meta["round"], meta["about"], meta.get("progress", {}), others)
