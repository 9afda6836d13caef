"""Measure the tables of docs/codecs.md; states come from scripts/make_states.py.

    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.bench_codecs --out results/codecs               # about 25 minutes
    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.bench_codecs --out results/codecs --only goals  # one comparison

Prints Markdown; keeps raw values, and a plot for each, in the folder. ``--only together`` prints the one table, and
draws the one picture, of all whole updates that the folder holds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedsz import ErrorBound, Partition, compress, update_bytes
from scripts.make_states import pairs
from testbed.bench import BenchOptions, BenchResult, read_result, run, write_result
from testbed.bench_report import markdown, ratio_speed_figure
from testbed.bench_states import State
from testbed.plot import save

COARSE = (1e-1, 1e-2, 1e-3)
FINE = (1e-4, 1e-5)
OURS = ("fedsz-q", "fedsz-q-dither")
SMALL, LARGE, HUGE = ("mobilenet_v2@8",), ("resnet50",), ("alexnet",)
COMPARISONS = {
    # Lossy tensors alone, where ratios and speeds are the codecs' own.
    "goals": BenchOptions(SMALL, ("sz2", *OURS), COARSE, repeats=15, part="lossy"),
    "goals-resnet50": BenchOptions(LARGE, ("sz2", *OURS), COARSE, repeats=5, part="lossy"),
    "goals-alexnet": BenchOptions(HUGE, ("sz2", *OURS), COARSE, repeats=3, part="lossy"),
    # Whole updates.
    "mobilenet_v2": BenchOptions(SMALL, repeats=7, reference="mobilenet_v2@7"),
    "resnet50": BenchOptions(LARGE, repeats=3),
    "alexnet": BenchOptions(HUGE, bounds=COARSE, repeats=3),
    "alexnet-fine": BenchOptions(HUGE, bounds=FINE, repeats=3),
}
SIDE_INFORMATION = "side-information"
TOGETHER = "together"
WHOLE = {
    "mobilenet_v2": "MobileNetV2",
    "resnet50": "ResNet50",
    "alexnet": "AlexNet",
    "alexnet-fine": "AlexNet",
}


def main() -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=(*COMPARISONS, SIDE_INFORMATION, TOGETHER)
    )
    arguments = parser.parse_args()
    chosen = arguments.only or (*COMPARISONS, SIDE_INFORMATION, TOGETHER)
    for name, options in COMPARISONS.items():
        if name in chosen:
            result = run(options)
            write_result(result, arguments.out / name)
            save(ratio_speed_figure(result), arguments.out / name, "ratio-speed")
            print(f"## {name}\n\n{markdown(result)}", flush=True)
    if SIDE_INFORMATION in chosen:
        side_information(arguments.out)
    if TOGETHER in chosen:
        together(arguments.out)


def together(folder: Path) -> None:
    """What was measured of whole updates, now or before, as one table a model and one picture."""
    found = {name: read_result(folder / name / "bench.json") for name in WHOLE}
    rows = [replace(row, state=WHOLE[name]) for name, result in found.items() for row in result.rows]
    result = BenchResult(BenchOptions(tuple(dict.fromkeys(WHOLE.values()))), tuple(rows))
    save(ratio_speed_figure(result), folder, "ratio-speed")
    print(markdown(result), flush=True)


def side_information(folder: Path) -> None:
    """MobileNetV2 given the global model: lossy tensors against the conditional limit and SZ2, and whole updates."""
    print("## side-information\n")
    print(
        "| round | update / bound at 1e-2 | REL | codec | without | limit given | given | of limit "
        "| faster than sz2 | whole update: sz2 | without | given |"
    )
    print("|" + " --- |" * 12)
    for name, (base, client) in pairs().items():
        lossy = {key: array for key, array in client.items() if Partition().is_lossy(key, array)}
        moved = mean_update(base, lossy)
        for bound in COARSE:
            options = BenchOptions((name,), ("sz2", *OURS), (bound,), repeats=7, part="lossy")
            result = run(options, states={name: lossy}, base=base)
            limit = conditional_limit(base, lossy, bound)
            sz2, *ours = result.rows
            for codec, plain, given in zip(OURS, ours[::2], ours[1::2], strict=True):
                speed = "{:.1f}x / {:.1f}x".format(*given.times_faster(sz2))
                cells = (
                    name, f"{moved:.2f}", f"{bound:g}", codec, f"{plain.ratio:.2f}x", f"{limit:.1f}x",
                    f"{given.ratio:.1f}x", f"{100 * given.ratio / limit:.0f} %", speed,
                    f"{whole(client, bound, 'sz2'):.2f}x", f"{whole(client, bound, codec):.2f}x",
                    f"{whole(client, bound, codec, base):.2f}x",
                )  # fmt: skip
                print(f"| {' | '.join(cells)} |", flush=True)
            slug = name.split(" (")[0].replace(", ", "-").replace(" ", "-")
            write_result(result, folder / f"side-{slug}-{bound:g}")


def whole(state: State, relative: float, codec: str, base: State | None = None) -> float:
    """Ratio of the whole update, batch norm's buffers, container and checksum included."""
    payload = compress(state, ErrorBound("REL", relative), codec=codec, reference=base)
    return update_bytes(state) / len(payload)


def mean_update(base: State, lossy: State) -> float:
    """Mean absolute update over the bound at REL 1e-2, averaged over the lossy tensors."""
    return float(
        np.mean([np.abs(a - base[k]).mean() / (0.01 * float(a.max() - a.min())) for k, a in lossy.items()])
    )


def conditional_limit(base: State, lossy: State, relative: float) -> float:
    """Ratio at the empirical entropy of q - qg given the sixteenth of its bin that the global weight lies in.

    One distribution for all lossy tensors together, as in the design's table.
    """
    parts, distances = [], []
    for key, array in lossy.items():
        values = array.reshape(-1).astype(np.float64)
        step = 2 * ErrorBound("REL", relative).absolute(float(values.max() - values.min()))
        place = base[key].reshape(-1).astype(np.float64) / step
        nearest = np.rint(place)
        parts.append(np.clip(((place - nearest + 0.5) * 16).astype(np.int64), 0, 15))
        distances.append((np.rint(values / step) - nearest).astype(np.int64))
    part, distance = np.concatenate(parts), np.concatenate(distances)
    bits = 0.0
    for sixteenth in range(16):
        _, counts = np.unique(distance[part == sixteenth], return_counts=True)
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    return sum(array.nbytes for array in lossy.values()) * 8 / bits


if __name__ == "__main__":
    main()
