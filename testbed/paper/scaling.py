"""Weak and strong scaling: the round's length over the number of clients, with a shared link and one server.

Weak: every client has as many samples as the scenario says. Strong: all clients share a number of samples, so that
local training gets shorter and the codec's share of the round longer. The network is modelled; every client's training,
compression and decompression is real work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from testbed.paper.communication import swept
from testbed.paper.figures import look_of
from testbed.paper.outcome import Outcome, Table, Verdict, ends, interval_text
from testbed.paper.settings import Scaling
from testbed.row import Row
from testbed.scenario import Scenario
from testbed.split import codec_name
from testbed.style import PAPER, Theme, drawn, plain_log

Tell = Callable[[str], None]


@dataclass(frozen=True)
class ScalingRow:
    """One codec with one number of clients; a value a repeat.

    Attributes:
        samples: training images of each client.
        round_s: first downlink byte to aggregated model, the slowest client's way.
        coding_s: compression and decompression, mean over clients.
        transfer_s: upload, mean over clients.
    """

    kind: str
    clients: int
    samples: int
    codec: str
    round_s: tuple[float, ...]
    coding_s: tuple[float, ...]
    transfer_s: tuple[float, ...]
    train_s: tuple[float, ...]

    @property
    def share(self) -> list[float]:
        """Percent of a round that the codec takes, one a repeat."""
        return [100 * code / whole for code, whole in zip(self.coding_s, self.round_s, strict=True)]


def run(size: Scaling, folder: Path, tell: Tell, data_dir: Path | None = None) -> Outcome:
    """A sweep for each number of clients, weak and strong."""
    rows: list[ScalingRow] = []
    for kind in ("weak", "strong"):
        for clients in size.clients:
            scenario = scenario_for(size, kind, clients)
            tell(f"{kind} scaling, {clients} clients")
            found = swept(scenario, folder / scenario.name, data_dir)
            rows += rows_of(kind, clients, scenario.learning.samples_per_client or 0, found)
    return outcome(rows)


def scenario_for(size: Scaling, kind: str, clients: int) -> Scenario:
    """The scenario with so many clients; at least two samples each, as batch norm needs."""
    base = size.scenario
    fleets = (replace(base.fleets[0], count=clients),)
    learning = base.learning
    if kind == "strong":
        learning = replace(learning, samples_per_client=max(2, size.samples // clients))
    return replace(base, name=f"{base.name}-{kind}-{clients}", fleets=fleets, learning=learning)


def rows_of(kind: str, clients: int, samples: int, rows: Sequence[Row]) -> list[ScalingRow]:
    """One a codec."""
    found = []
    for codec in dict.fromkeys(row.codec for row in rows):
        mine = [row for row in rows if row.codec == codec and row.usable]
        by_repeat = [[r for r in mine if r.repeat == repeat] for repeat in sorted({r.repeat for r in mine})]
        found.append(
            ScalingRow(
                kind, clients, samples, codec_name(codec),
                tuple(max(row.round_s for row in one) for one in by_repeat),
                tuple(float(np.mean([row.compress_s + row.decompress_s for row in one])) for one in by_repeat),
                tuple(float(np.mean([row.uplink_s for row in one])) for one in by_repeat),
                tuple(float(np.mean([row.train_s for row in one])) for one in by_repeat),
            )
        )  # fmt: skip
    return found


def outcome(rows: list[ScalingRow]) -> Outcome:
    """Table, picture and verdicts."""
    raw = {(row.kind, row.clients): row for row in rows if row.codec == "none"}
    cells = []
    for row in rows:
        base = raw.get((row.kind, row.clients))
        gain = "-"
        if base is not None and row.codec != "none":
            gain = interval_text([b / a for a, b in zip(row.round_s, base.round_s, strict=False)]) + "x"
        cells.append(
            (
                row.kind, str(row.clients), str(row.samples), row.codec, f"{np.mean(row.train_s):.3f}",
                f"{np.mean(row.transfer_s):.3f}", interval_text(row.round_s, 3), gain,
                "-" if row.codec == "none" else interval_text(row.share, 1, " %"),
            )
        )  # fmt: skip
    table = Table(
        "Round time over the number of clients, mean over repeats [95 % interval]",
        ("scaling", "clients", "samples each", "codec", "train (s)", "upload (s)", "round (s)", "raw / this",
         "codec's share of the round"),
        tuple(cells),
    )  # fmt: skip
    data = [asdict(row) | {"share_percent": row.share} for row in rows]
    notes = (
        "With a round or a few, nothing is learnt at any bound: these runs say nothing about accuracy at scale.",
    )
    return Outcome(
        tuple(_verdicts(rows)), (table,), {"scaling": data}, {"scaling": figure(rows)}, notes=notes
    )


def _verdicts(rows: list[ScalingRow]) -> list[Verdict]:
    verdicts = []
    raw = {(row.kind, row.clients): row for row in rows if row.codec == "none"}
    for codec in dict.fromkeys(row.codec for row in rows if row.codec != "none"):
        for kind in ("weak", "strong"):
            mine = sorted(
                (r for r in rows if r.codec == codec and r.kind == kind), key=lambda row: row.clients
            )
            gains = [
                [b / a for a, b in zip(row.round_s, raw[kind, row.clients].round_s, strict=False)]
                for row in (mine[0], mine[-1])
                if (kind, row.clients) in raw
            ]
            if len(gains) < 2:
                continue
            verdicts.append(
                Verdict(
                    f"{kind} scaling: {codec} keeps shortening the round as clients are added",
                    "scales to 128 ranks",
                    f"raw / compressed {interval_text(gains[0])}x with {mine[0].clients}, {interval_text(gains[1])}x "
                    f"with {mine[-1].clients} clients",
                    judged(gains[1]),
                )
            )
    return verdicts


def judged(gains: Sequence[float]) -> str:
    """Whether raw over compressed time is above 1 with the most clients; an interval that holds 1 decides nothing."""
    low, high = ends(gains)
    if low > 1:
        return "agrees"
    return "does not agree" if high < 1 else "undecided: the interval holds 1"


def figure(rows: list[ScalingRow], theme: Theme = PAPER) -> Figure:
    """Round time over clients, a panel weak and one strong, a line a codec."""
    codecs = list(dict.fromkeys(row.codec for row in rows))
    styles = look_of(codecs, theme)
    with drawn(theme):
        drawing = Figure(figsize=(8.2, 3.8), layout="constrained")
        for axes, kind in zip(
            drawing.subplots(1, 2, sharey=True, squeeze=False)[0], ("weak", "strong"), strict=True
        ):
            for codec in codecs:
                mine = sorted(
                    (r for r in rows if r.codec == codec and r.kind == kind), key=lambda r: r.clients
                )
                clients = [row.clients for row in mine]
                style = styles[codec]
                axes.plot(clients, [np.mean(row.round_s) for row in mine], color=style.colour, marker=style.marker,
                          linestyle=style.dashes, markersize=4.5, linewidth=1.4, label=style.name)  # fmt: skip
                axes.fill_between(clients, [min(r.round_s) for r in mine], [max(r.round_s) for r in mine],
                                  color=style.colour, alpha=0.18, linewidth=0)  # fmt: skip
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(sorted({row.clients for row in rows}))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            plain_log(axes, "y")
            axes.grid(visible=True)
            axes.set_title(f"{kind} scaling")
            axes.set_xlabel("clients")
            if kind == "weak":
                axes.set_ylabel("round (s)")
                axes.legend()
    return drawing
