"""A cell's rounds so far, kept after each of them, so that a killed run loses one round and not the cell.

One file a cell, ``checkpoints/cell-3.safetensors`` in the result folder: the global model, which stays there when the
cell is complete, and with it all that going on takes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from testbed.cell_log import CellLog
from testbed.cells import Cell
from testbed.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from testbed.policy import Policy
from testbed.record import CHECKPOINTS
from testbed.work import Model


def path_of(results: Path, cell: int) -> Path:
    """Where the checkpoint of a cell lies."""
    return results / CHECKPOINTS / f"cell-{cell}.safetensors"


def rounds_kept(results: Path, cell: int) -> int:
    """How many rounds of an incomplete cell are kept."""
    path = path_of(results, cell)
    return load_checkpoint(path).round if path.exists() else 0


class CellCheckpoint:
    """The checkpoint of one cell of one run.

    Args:
        results: the run's folder.
        run: the run's id; a checkpoint of another run is refused.
    """

    def __init__(self, results: Path, run: str, cell: Cell) -> None:
        self.path = path_of(results, cell.index)
        scenario = json.dumps(cell.scenario.to_dict(), sort_keys=True)
        self._about = {
            "run": run,
            "cell": cell.index,
            "scenario": hashlib.sha256(scenario.encode()).hexdigest(),
        }

    def keep(
        self,
        number: int,
        model: Model,
        held: Mapping[str, Model],
        log: CellLog,
        policy: Policy,
        rng: np.random.Generator,
    ) -> None:
        """Round *number* is over and *model* came of it.

        Args:
            held: what each client has received, where the next downlink is coded against it.
        """
        progress = {
            "held": {client: one.digest for client, one in held.items()},
            "log": log.to_dict(),
            "goodput_bps": policy.goodput_bps,
            "last": {client: [one.digest for one in pair] for client, pair in policy.last.items()},
            "rng": rng.bit_generator.state,
        }
        self.path.parent.mkdir(exist_ok=True)
        kept = [*held.values(), *(one for pair in policy.last.values() for one in pair)]
        others = {one.digest: one.state for one in kept}
        save_checkpoint(Checkpoint(model.state, number + 1, self._about, progress, others), self.path)

    def resume(
        self, log: CellLog, policy: Policy, rng: np.random.Generator
    ) -> tuple[int, Model, dict[str, Model]] | None:
        """How many rounds are over, the global model and what clients hold; *log*, *policy* and *rng* go on as well.

        None where nothing was kept. Raises: CheckpointError where the file is damaged or of another run.
        """
        if not self.path.exists():
            return None
        kept = load_checkpoint(self.path, self._about)
        progress: Mapping[str, Any] = kept.progress
        log.restore(progress["log"])
        policy.goodput_bps.update(progress["goodput_bps"])
        rng.bit_generator.state = progress["rng"]
        models = {digest: Model(state, digest) for digest, state in kept.others.items()}
        for client, (update, before) in progress.get("last", {}).items():
            policy.last[client] = models[update], models[before]
        held = {client: models[digest] for client, digest in progress["held"].items()}
        return kept.round, Model.of(kept.state), held
