"""Communication time per bandwidth and the crossover of each device, from sweeps of the testbed itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from netem.units import format_rate
from testbed import sweep as sweeps
from testbed.crossover import Crossover, crossovers, interval_text, rate_text
from testbed.learning.data import data_folder, load_dataset
from testbed.learning.errors import DatasetMissingError
from testbed.pairing import Pair, pair_up
from testbed.paper.figures import look_of
from testbed.paper.outcome import Outcome, Table, Verdict, mean_interval
from testbed.paper.outcome import interval_text as mean_text
from testbed.paper.settings import Communication
from testbed.record import MANIFEST, read_results
from testbed.row import Row
from testbed.scenario import Scenario
from testbed.split import codec_name
from testbed.style import PAPER, Theme, drawn, legend_below, plain_log

Tell = Callable[[str], None]
MODELLED = (
    "Transfers are modelled (max-min fair links, headers, handshake); compression is measured here and scaled to each "
    "device by its profile."
)
SLOW_BPS, LIMIT_BPS, ORDER = 10e6, 500e6, 10.0


@dataclass(frozen=True)
class Gain:
    """What compressing saves at one rate, one value a repeat (mean over its clients and rounds).

    Attributes:
        transfer: seconds of the upload raw over seconds compressed: what the paper calls transfer time.
        whole: seconds to (pack,) send (and unpack) raw over seconds to compress, send and decompress.
        saved_s: seconds less that an update takes, coding counted.
    """

    model: str
    fleet: str
    device: str
    codec: str
    rate_bps: float
    update_bytes: int
    raw_s: tuple[float, ...]
    coded_s: tuple[float, ...]
    transfer: tuple[float, ...]
    whole: tuple[float, ...]
    saved_s: tuple[float, ...]


def run(size: Communication, folder: Path, tell: Tell, data_dir: Path | None = None) -> Outcome:
    """Each scenario into a folder of its own, a sweep's result folder: `testbed report` shows it."""
    gains: list[Gain] = []
    found: list[tuple[str, Crossover]] = []
    missing, absent = [], None
    for scenario in size.scenarios:
        tell(f"sweep {scenario.name}")
        try:
            rows = swept(scenario, folder / scenario.name, data_dir)
        except DatasetMissingError as error:
            missing.append(f"{scenario.name}: {error}")
            absent = error
            continue
        gains += gains_of(scenario.learning.model, rows)
        found += [(scenario.learning.model, item) for item in crossovers(rows)]
    if absent is not None and not gains:
        raise absent
    return outcome(gains, found, tuple(missing))


def swept(scenario: Scenario, folder: Path, data_dir: Path | None = None) -> Sequence[Row]:
    """The rows of *scenario*, measured now or, what is there, before."""
    learning = scenario.learning
    if learning.fallback_data is None:  # said now, before a folder is made
        load_dataset(learning.data, data_folder(Path(learning.data_dir) if learning.data_dir else data_dir))
    if (folder / MANIFEST).exists():
        sweeps.resume(folder, mode="quiet")
    else:
        sweeps.start(scenario, folder, mode="quiet")
    return read_results(folder).rows


def gains_of(model: str, rows: Sequence[Row]) -> list[Gain]:
    """One a fleet, codec and rate."""
    gains = []
    for pairing in pair_up(rows):
        for rate in sorted({pair.rate_bps for pair in pairing.pairs}):
            mine = [pair for pair in pairing.pairs if pair.rate_bps == rate]
            repeats = [[p for p in mine if p.repeat == repeat] for repeat in sorted({p.repeat for p in mine})]

            def each(
                value: Callable[[Pair], float], repeats: list[list[Pair]] = repeats
            ) -> tuple[float, ...]:
                return tuple(float(np.mean([value(pair) for pair in one])) for one in repeats)

            gains.append(
                Gain(
                    model, pairing.group.fleet, pairing.group.device, codec_name(pairing.group.codec), rate,
                    mine[0].raw.update_bytes, each(lambda p: _sending_s(p.raw)), each(lambda p: _sending_s(p.coded)),
                    each(lambda p: p.raw.uplink_s / p.coded.uplink_s),
                    each(lambda p: _sending_s(p.raw) / _sending_s(p.coded)),
                    each(lambda p: _sending_s(p.raw) - _sending_s(p.coded)),
                )
            )  # fmt: skip
    return gains


def _sending_s(row: Row) -> float:
    return row.compress_s + row.uplink_s + row.decompress_s


def outcome(gains: list[Gain], found: list[tuple[str, Crossover]], missing: tuple[str, ...] = ()) -> Outcome:
    """Tables, pictures and verdicts."""
    cells = [
        (
            model, item.device, codec_name(item.codec),
            "-" if item.compression_ratio is None else f"{item.compression_ratio:.2f}",
            _where(item), _closed(item), _under(item),
        )
        for model, item in found
    ]  # fmt: skip
    crossing = Table(
        "Compressing pays below this uplink rate [95 % interval over repeats]",
        ("model", "device", "codec", "ratio", "measured", "closed form", "500 Mbit/s?"),
        tuple(cells),
    )
    times = Table(
        "Time to compress, send and decompress one update: raw over compressed, mean over repeats [95 %]",
        ("model", "device", "codec", *(format_rate(rate) for rate in _rates(gains))),
        tuple(_times(gains)),
    )
    data = {
        "gains": [asdict(gain) for gain in gains],
        "crossovers": [
            {
                "model": model,
                "device": item.device,
                "codec": codec_name(item.codec),
                "ratio": item.compression_ratio,
                "where": item.measured.where,
                "measured_bps": item.measured.value_bps,
                "low_bps": item.measured.low_bps,
                "high_bps": item.measured.high_bps,
                "closed_form_bps": item.closed_form.value_bps,
                "compress_s": item.compress_s,
                "decompress_s": item.decompress_s,
            }
            for model, item in found
        ],
    }
    return Outcome(
        tuple(_verdicts(gains, found)),
        (crossing, times),
        data,
        {"communication": figure(gains)} if gains else {},
        missing,
        (MODELLED,),
    )  # fmt: skip


def _where(item: Crossover) -> str:
    estimate = item.measured
    if estimate.where == "within" and estimate.value_bps is not None:
        return rate_text(estimate.value_bps) + interval_text(estimate)
    rates = [point.rate_bps for point in item.points]
    words = {"above": f"above {format_rate(max(rates))}", "below": f"below {format_rate(min(rates))}"}
    return words.get(estimate.where, f"unknown: {estimate.note}") if rates else "unknown"


def _closed(item: Crossover) -> str:
    estimate = item.closed_form
    return "-" if estimate.value_bps is None else rate_text(estimate.value_bps) + interval_text(estimate)


def _under(item: Crossover) -> str:
    """Does compressing still pay at the paper's 500 Mbit/s?"""
    estimate = item.measured
    if estimate.where == "above":
        return "pays"
    if estimate.where == "below":
        return "does not pay"
    low, high = estimate.low_bps, estimate.high_bps
    if estimate.value_bps is None:
        return "-"
    if not estimate.has_interval:
        return "pays" if estimate.value_bps > LIMIT_BPS else "does not pay"
    if low is not None and low > LIMIT_BPS:
        return "pays"
    if high is not None and high < LIMIT_BPS:
        return "does not pay"
    return "undecided"


def _rates(gains: list[Gain]) -> list[float]:
    return sorted({gain.rate_bps for gain in gains})


def _times(gains: list[Gain]) -> list[tuple[str, ...]]:
    keys = list(dict.fromkeys((gain.model, gain.fleet, gain.device, gain.codec) for gain in gains))
    cells = []
    for model, fleet, device, codec in keys:
        mine = {
            g.rate_bps: g for g in gains if (g.model, g.fleet, g.device, g.codec) == (model, fleet, device, codec)
        }  # fmt: skip
        texts = [mean_text(mine[r].whole) + "x" if r in mine else "-" for r in _rates(gains)]
        cells.append((model, device, codec, *texts))
    return cells


def _verdicts(gains: list[Gain], found: list[tuple[str, Crossover]]) -> list[Verdict]:
    verdicts = []
    for codec in dict.fromkeys(codec_name(item.codec) for _, item in found):
        mine = [(model, item) for model, item in found if codec_name(item.codec) == codec]
        said = [_under(item) for _, item in mine]
        pays, undecided = said.count("pays"), said.count("undecided")
        texts = [f"{item.device} ({model}) {_where(item)}" for model, item in mine]
        word = (
            "agrees"
            if pays == len(said)
            else f"agrees on {pays} of {len(said)} devices"
            + (f", {undecided} undecided" if undecided else "")
            if pays
            else "does not agree"
        )
        verdicts.append(
            Verdict(f"{codec} pays below 500 Mbit/s", "worthwhile below 500 Mbit/s", "; ".join(texts), word)
        )
        slow = [g for g in gains if g.codec == codec and g.rate_bps == SLOW_BPS]
        models = dict.fromkeys(gain.model for gain in slow)
        verdicts += [_slow(codec, model, [g for g in slow if g.model == model]) for model in models]
    return verdicts


def _slow(codec: str, model: str, gains: list[Gain]) -> Verdict:
    worst, best = (pick(gains, key=lambda g: float(np.mean(g.whole))) for pick in (min, max))
    low = mean_interval(worst.whole)[1] if len(worst.whole) > 1 else worst.whole[0]
    high = mean_interval(best.whole)[2] if len(best.whole) > 1 else best.whole[0]
    word = (
        "agrees"
        if low >= ORDER
        else f"does not agree: below {ORDER:g}x"
        if high < ORDER
        else "agrees in part"
    )
    return Verdict(
        f"{model}, 10 Mbit/s, {codec}: transfer time an order of magnitude less",
        "> 13.3x, > 100 s saved (AlexNet-sized updates)",
        f"transfer {mean_text(best.transfer)}x; with coding {mean_text(worst.whole)}x ({worst.device}) to "
        f"{mean_text(best.whole)}x ({best.device}); {mean_text(best.saved_s, 1)} s saved of "
        f"{np.mean(best.raw_s):.1f} s",
        word,
    )


def figure(gains: list[Gain], theme: Theme = PAPER) -> Figure:
    """Raw over compressed time, by rate: a panel a model and device, a line a codec; below 1 compressing costs time."""
    panels = list(dict.fromkeys((gain.model, gain.device) for gain in gains))
    codecs = list(dict.fromkeys(gain.codec for gain in gains))
    styles = look_of(codecs, theme)
    columns = min(3, len(panels))
    bands = -(-len(panels) // columns)
    with drawn(theme):
        drawing = Figure(figsize=(max(5.6, 3.7 * columns), 3.2 * bands + 0.5), layout="constrained")
        grid = drawing.subplots(bands, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, (model, device) in zip(grid.flat, panels, strict=False):
            for codec in codecs:
                mine = [g for g in gains if (g.model, g.device, g.codec) == (model, device, codec)]
                mine = sorted(mine, key=lambda g: g.rate_bps)
                rates = [gain.rate_bps / 1e6 for gain in mine]
                style = styles[codec]
                axes.plot(rates, [np.mean(g.whole) for g in mine], color=style.colour, marker=style.marker,
                          linestyle=style.dashes, markersize=4.5, linewidth=1.4, label=codec)  # fmt: skip
                axes.fill_between(rates, [min(g.whole) for g in mine], [max(g.whole) for g in mine],
                                  color=style.colour, alpha=0.18, linewidth=0)  # fmt: skip
            axes.axhline(1.0, color=theme.ink, linewidth=0.9)
            axes.axhline(ORDER, color=theme.ink, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.axvline(LIMIT_BPS / 1e6, color=theme.ink, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.set_xscale("log")
            axes.set_yscale("log")
            plain_log(axes, "xy")
            axes.grid(visible=True)
            axes.set_title(f"{model}\n{device}", fontsize=9.5)
            axes.tick_params(axis="x", labelsize=7.5)
        for axes in grid[-1]:
            axes.set_xlabel("uplink (Mbit/s)")
        for band in grid:
            band[0].set_ylabel("raw time / time\nwith compression")
        legend_below(drawing, grid.flat, 4)
    return drawing
