"""The global model between rounds, on disk, so that a killed run goes on where it was. safetensors: never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from testbed.learning.errors import CheckpointError

CHECKPOINT_SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """A global model and where the run stood.

    Attributes:
        state: names in the model's order, exact dtypes and shapes.
        round: rounds completed; the next one has this number when rounds count from 0.
        about: what the run must agree with to go on from here (model, data, seed, ...), JSON values.
    """

    state: Mapping[str, np.ndarray]
    round: int
    about: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, file: Path) -> None:
    """Write *checkpoint*, replacing an older one in one step: a kill leaves the old or the new one, whole."""
    meta = {
        "schema": CHECKPOINT_SCHEMA,
        "round": checkpoint.round,
        "about": dict(checkpoint.about),
        "names": list(checkpoint.state),  # safetensors keeps its own order
    }
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        arrays = {name: np.ascontiguousarray(values) for name, values in checkpoint.state.items()}
        # ascontiguousarray makes a 0-d array 1-d; the shape is part of the state.
        arrays = {name: arrays[name].reshape(np.shape(values)) for name, values in checkpoint.state.items()}
        save_file(arrays, draft, metadata={"checkpoint": json.dumps(meta, sort_keys=True)})
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


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
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(str(file), f"cannot be read: {error}") from error
    if about is not None:
        for key in sorted(about.keys() | meta["about"].keys()):
            here, there = about.get(key), meta["about"].get(key)
            if here != there:
                raise CheckpointError(
                    str(file), f"belongs to another run: {key} is {there!r} there, {here!r} here"
                )
    return Checkpoint(state, meta["round"], meta["about"])
