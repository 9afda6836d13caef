"""Measure the tables of docs/codecs.md; states come from scripts/make_states.py.

    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.bench_codecs --out results/codecs            # about 20 minutes
    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.bench_codecs --out results/codecs --alexnet  # 10 more

Prints Markdown; keeps raw values, and a plot for each, in the folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fedsz import ErrorBound, Partition
from scripts.make_states import pairs
from testbed.bench import BenchOptions, run, write_result
from testbed.bench_report import markdown, ratio_speed_figure
from testbed.bench_states import State
from testbed.plot import save

COARSE = (1e-1, 1e-2, 1e-3)


def main() -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--alexnet", action="store_true")
    parser.add_argument("--only", help="one of the comparisons by name")
    arguments = parser.parse_args()
    small, large = ("mobilenet_v2@8",), ("resnet50",)
    comparisons = {
        "goals": BenchOptions(small + large, ("sz2", "fedsz-q"), COARSE, repeats=11, part="lossy"),
        "goals-unverified": BenchOptions(
            small + large, ("sz2", "fedsz-q"), COARSE, repeats=7, part="lossy", verify=False
        ),
        "small": BenchOptions(small, repeats=9, reference="mobilenet_v2@7"),
        "large": BenchOptions(large, repeats=5),
    }
    if arguments.alexnet:
        comparisons["alexnet"] = BenchOptions(
            ("alexnet",), ("sz2", "sz3-nopred", "fedsz-q"), COARSE, repeats=3
        )
    for name, options in comparisons.items():
        if arguments.only in (None, name):
            result = run(options)
            write_result(result, arguments.out / name)
            save(ratio_speed_figure(result), arguments.out / name, "ratio-speed")
            print(f"## {name}\n\n{markdown(result)}", flush=True)
    if arguments.only in (None, "side-information"):
        side_information(arguments.out)


def side_information(folder: Path) -> None:
    """MobileNetV2's lossy tensors given the global model: ratio, share of the conditional limit, speed against SZ2."""
    print("## side-information\n")
    print(
        "| round | update / bound at 1e-2 | REL | without | limit given | given | of limit | faster than sz2 |"
    )
    print("|" + " --- |" * 8)
    for name, (base, client) in pairs().items():
        lossy = {key: array for key, array in client.items() if Partition().is_lossy(key, array)}
        moved = mean_update(base, lossy)
        for bound in COARSE:
            options = BenchOptions((name,), ("sz2", "fedsz-q"), (bound,), repeats=7, part="lossy")
            result = run(options, states={name: lossy}, base=base)
            sz2, plain, given = result.rows
            limit = conditional_limit(base, lossy, bound)
            speed = "{:.1f}x / {:.1f}x".format(*given.times_faster(sz2))
            cells = (
                name, f"{moved:.2f}", f"{bound:g}", f"{plain.ratio:.2f}x", f"{limit:.1f}x", f"{given.ratio:.1f}x",
                f"{100 * given.ratio / limit:.0f} %", speed,
            )  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)
            slug = name.split(" (")[0].replace(", ", "-").replace(" ", "-")
            write_result(result, folder / f"side-{slug}-{bound:g}")


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
