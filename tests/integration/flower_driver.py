"""Runs the app of docs/howto/flower.md in Flower's simulation, once without compression, once with a hostile client.

One session of the engine for all of it, in a process of its own: starting it is what takes time. Started by
test_flower.py with the page's code importable as `digits`; writes what the server saw to the file named.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import digits
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from fedsz_flower import DecompressGrid

HOSTILE = 1

client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """The page's client as it is, its training alone, or with a payload that was changed on the way."""
    role = dict(message.content["config"]).get("role")
    if role == "plain":
        return digits.train(message, context)
    reply: Message = digits.client_app(message, context)
    if role == "hostile" and context.node_config["partition-id"] == HOSTILE:
        (name,) = reply.content["arrays"]
        sent = reply.content["arrays"][name]
        data = bytearray(sent.data)
        data[len(data) // 2] ^= 0xFF
        damaged = Array(dtype=sent.dtype, shape=sent.shape, stype=sent.stype, data=bytes(data))
        reply.content["arrays"] = ArrayRecord({name: damaged})
    return reply


class Seen(digits.FedAvg):
    """FedAvg that notes what it was given and what it made of it."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        """As FedAvg does."""
        replies = list(replies)
        aggregate, metrics = super().aggregate_train(server_round, replies)
        good = [reply for reply in replies if reply.has_content()]
        states = {
            int(reply.content["metrics"]["num-examples"]): state(reply.content["arrays"]) for reply in good
        }
        notes.append(
            {
                "updates": states,
                "errors": [reply.error.reason for reply in replies if reply.has_error()],
                "aggregate": state(aggregate),
                "metrics": dict(metrics),
            }
        )
        return aggregate, metrics


notes: list[dict[str, Any]] = []
digits.FedAvg = Seen


def state(record: ArrayRecord) -> dict[str, np.ndarray[Any, Any]]:
    """Plain arrays, in order."""
    return {name: array.numpy() for name, array in record.items()}


server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Three runs from the same model."""
    outcome = {}
    for role, this_grid in (("plain", grid), ("hostile", DecompressGrid(grid))):
        notes.clear()
        Seen(fraction_evaluate=0.0).start(
            grid=this_grid,
            initial_arrays=ArrayRecord(digits.net().state_dict()),
            num_rounds=1,
            train_config=ConfigRecord({"role": role}),
        )
        outcome[role] = list(notes)
    notes.clear()
    digits.main(grid, context)
    outcome["page"] = list(notes)
    Path(sys.argv[1]).write_bytes(pickle.dumps(outcome))


if __name__ == "__main__":
    run_simulation(server_app, client_app, num_supernodes=2)
