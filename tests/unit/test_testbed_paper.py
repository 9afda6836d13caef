"""The paper's experiments: each file at both sizes, each experiment at a tiny one, and what the figures are made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from testbed_rows import sweep_rows

import fedsz
from fedsz import ErrorBound
from scripts.what_arrives import arrivals
from testbed.cli import main
from testbed.crossover import crossovers
from testbed.learning.errors import DatasetMissingError
from testbed.paper import accuracy, accuracy_outcome, communication, cost, errors, lossless, ratio, scaling
from testbed.paper.accuracy import Run, differences
from testbed.paper.command import experiment
from testbed.paper.learner import find
from testbed.paper.outcome import ends
from testbed.paper.settings import NAMES, Learner, Paper, load, loads, locate
from testbed.scenario import Candidate

# On 8 pixels: 0.7 MB a state.
SMALL = "cnn"


def paper(name: str) -> Paper:
    return load(locate(name))


def tiny(learner: Learner, **changes: Any) -> Learner:
    """Two steps on embedded images, whatever *learner* asks for."""
    changes = {"model": SMALL, "data": ("digits",), "image_size": 8, "samples": 32, "rounds": 1, "batch_size": 16,
               "test_samples": 20, "final_test_samples": 40, "seeds": 1, "local_epochs": 1} | changes  # fmt: skip
    return dataclasses.replace(learner, **changes)


def shrunk(size: Any) -> Any:
    """*size* with its codecs, bounds and arms, and next to no work."""
    if hasattr(size, "scenarios"):
        return dataclasses.replace(size, scenarios=tuple(shrunk_scenario(one) for one in size.scenarios[:1]))
    if hasattr(size, "scenario"):
        return size
    changes: dict[str, Any] = {"learners": tuple(tiny(learner) for learner in size.learners[:1])}
    if hasattr(size, "repeats"):
        changes["repeats"] = 2
    if hasattr(size, "samples"):
        changes["samples"] = (4, 32)
    return dataclasses.replace(size, **changes)


def shrunk_scenario(scenario: Any) -> Any:
    learning = dataclasses.replace(
        scenario.learning, model=SMALL, data="digits", image_size=8, batch_size=4, max_steps=1, rounds=1,
        samples_per_client=4, evaluate=False,
    )  # fmt: skip
    axes = {name: values[:1] + values[-1:] for name, values in scenario.sweep.axes.items()}
    sweep = dataclasses.replace(scenario.sweep, repeats=2, axes=axes)
    return dataclasses.replace(scenario, learning=learning, sweep=sweep, fleets=scenario.fleets[:1])


def swept_on_paper(scenario: Any, folder: Path, data_dir: Path | None) -> list[Any]:
    """Rows as a sweep over *scenario* gives them; the scenario itself must be one that can be run."""
    del folder, data_dir
    assert scenario.cells()
    return sweep_rows(repeats=2, noise=0.02, rates=(10e6, 1e9), codecs=("none", "sz2", "fedsz-q"))


@pytest.mark.parametrize("name", NAMES)
def test_every_file_holds_its_experiment_at_both_sizes(name: str) -> None:
    found = paper(name)
    assert found.experiment == name
    assert found.claim
    assert found.description
    for size in (found.reduced, found.full):
        for scenario in getattr(size, "scenarios", ()):
            assert scenario.learning.fallback_data is None  # never other data under the same name
            assert "none" in scenario.sweep.axes["codec"]


def test_full_size_is_the_papers() -> None:
    """Section 3 of the paper's set-up: models, data, Adam 1e-3, batch 128, one local epoch, ten rounds."""
    for name in ("ratio", "accuracy"):
        size = paper(name).full
        assert {learner.model for learner in size.learners} == {"alexnet", "mobilenet_v2", "resnet50"}
        for learner in size.learners:
            assert set(learner.data) == {"cifar-10", "caltech101", "fashion-mnist"}
            assert (learner.rounds, learner.local_epochs, learner.batch_size) == (10, 1, 128)
            assert (learner.lr, learner.samples, learner.max_steps) == (1e-3, None, None)
        assert {1e-1, 1e-2, 1e-3, 1e-4, 1e-5} <= set(size.bounds)
    arms = {arm.bound for learner in paper("accuracy").full.learners for arm in learner.arms}
    assert {ErrorBound("REL", bound) for bound in (1e-1, 5e-2, 1e-2, 1e-3, 1e-4, 1e-5)} <= arms
    assert max(paper("scaling").full.clients) == 127


@pytest.mark.parametrize("full", [False, True], ids=["reduced", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_takes_its_first_steps(
    name: str, full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = paper(name)
    if name == "scaling":  # its sweeps are run as those of "communication" are; a dozen would take a minute
        monkeypatch.setattr(scaling, "swept", swept_on_paper)
    if name == "communication" and not full:
        monkeypatch.setattr(communication, "swept", swept_on_paper)
    found = dataclasses.replace(found, reduced=shrunk(found.reduced), full=shrunk(found.full))
    outcome, files = experiment(found, tmp_path, full=full)
    assert outcome.verdicts
    assert all(table.cells for table in outcome.tables)
    assert {path.suffix for path in files} == {".json", ".md", ".csv", ".svg", ".png"}
    assert all(path.stat().st_size > 0 for path in files)
    data = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert data["size"] == ("full" if full else "reduced")
    assert all(rows for rows in data["data"].values())


def test_the_command_prints_the_claims_and_writes_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
experiment: errors
description: a tiny one
claim: none
reduced: &size
  learners: [{model: cnn, data: [digits, cifar-10], image_size: 8, samples: 32, rounds: 1, batch_size: 16}]
  codecs: [fedsz-q-dither]
  bounds: [1e-2]
full: *size
"""
    (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
    out, nothing = tmp_path / "out", tmp_path / "nothing"
    arguments = ["paper", str(tmp_path / "tiny.yaml"), "--out", str(out), "--data-dir", str(nothing)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "| claim | paper | ours | verdict |" in said
    assert "no differential privacy" in said
    # The rows that are not there are named, with the command that gets them.
    fetch = f"python -m testbed.learning.fetch cifar-10 --data-dir {nothing}"
    assert f"- cnn, cifar-10: data set cifar-10 is not in {nothing}; get it with: {fetch}" in said
    assert sorted(path.name for path in out.iterdir()) == [
        "errors.csv", "errors.json", "errors.md", "errors.png", "errors.svg",
    ]  # fmt: skip
    assert (out / "errors.md").read_text(encoding="utf-8") in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paper", "rato"], "did you mean 'ratio'?"),
        (["paper", "no-such-file.yaml"], "no-such-file.yaml:1:1: cannot be read: No such file"),
    ],
)
def test_a_wrong_name_is_one_clear_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_key_is_named_with_its_place() -> None:
    text = "experiment: ratio\ndescription: d\nclaim: c\nreduced: {bonds: [1e-2]}\nfull: {}\n"
    with pytest.raises(Exception, match="unknown key 'bonds'") as caught:
        loads(text, "x.yaml")
    assert "x.yaml:4:11" in str(caught.value)


def test_without_any_of_its_data_nothing_is_started(tmp_path: Path) -> None:
    found = paper("communication")
    scenario = found.reduced.scenarios[0]
    learning = dataclasses.replace(scenario.learning, data="cifar-10", data_dir=str(tmp_path / "data"))
    size = dataclasses.replace(found.reduced, scenarios=(dataclasses.replace(scenario, learning=learning),))
    with pytest.raises(DatasetMissingError, match=r"testbed\.learning\.fetch cifar-10"):
        experiment(dataclasses.replace(found, reduced=size), tmp_path / "out")
    learner = tiny(paper("ratio").full.learners[0], data=("cifar-10", "caltech101"))
    with pytest.raises(DatasetMissingError):
        find([learner], tmp_path / "data")


# --- accuracy ---------------------------------------------------------------------------------------------------------


def small_accuracy(**changes: Any) -> accuracy.Accuracy:
    learner = tiny(Learner(SMALL, ("digits",)), rounds=2, **changes)
    return accuracy.Accuracy((learner,), ("fedsz-q",), (1e-2,))


def quiet(_: str) -> None:
    pass


def test_runs_of_one_seed_differ_in_the_codec_alone(tmp_path: Path) -> None:
    """A bound of 0 is lossless: were seeds, order or weights not the same, the accuracies would differ."""
    lossless_arm = Candidate("fedsz-q", ErrorBound("REL", 0.0))
    size = small_accuracy(arms=(lossless_arm,), seeds=2)
    runs = accuracy.run(size, find(size.learners).trainings, tmp_path, quiet)
    raw = {run.seed: run for run in runs if run.codec == "none"}
    coded = {run.seed: run for run in runs if run.codec == "fedsz-q" and not run.once}
    assert raw.keys() == coded.keys() == {1, 2}
    for seed, run in coded.items():
        assert run.curve == raw[seed].curve
        assert run.accuracy == raw[seed].accuracy
        assert len(run.ratios) == 2  # really coded, both rounds
    assert raw[1].curve != raw[2].curve  # and another seed is another run
    (difference,) = [one for one in differences(runs) if not one.once]
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    size = small_accuracy(arms=(Candidate("fedsz-q", ErrorBound("REL", 1e-2)),))
    trainings = find(size.learners).trainings
    first = accuracy.run(size, trainings, tmp_path, quiet)
    file = tmp_path / accuracy.FILE
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == len(first) == 3
    file.write_text("".join(lines[:2]) + lines[2][:20], encoding="utf-8")  # killed while writing
    told: list[str] = []
    second = accuracy.run(size, trainings, tmp_path, told.append)
    assert second == first
    assert len(told) == 1
    assert file.read_text(encoding="utf-8").splitlines(keepends=True) == lines


def made_up(differences_in_points: list[float], bound: float = 1e-2) -> list[Run]:
    runs = []
    for seed, points in enumerate(differences_in_points):
        blank = Run("p", "m, d", seed, "none", 0.0, False, 0.8 + 0.01 * seed, 100)
        after = blank.accuracy + points / 100
        runs += [blank, dataclasses.replace(blank, codec="sz2", bound=bound, accuracy=after)]
    return runs


def test_the_interval_is_that_of_the_pairs() -> None:
    points = [-0.2, 0.1, 0.0, -0.1, 0.3]
    (found,) = differences(made_up(points))
    low, high = stats.ttest_1samp(points, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(points))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.seeds == 5
    # The runs themselves are spread far wider, which pairs do not feel.
    assert found.raw_deviation == pytest.approx(np.std([0, 1, 2, 3, 4], ddof=1))


def test_many_rounds_are_drawn_round_by_round() -> None:
    assert "rounds" not in accuracy_outcome.outcome(made_up([0.1, 0.2])).figures
    curves = {"none": np.linspace(0.5, 0.8, 30), "sz2": np.linspace(0.5, 0.3, 30)}
    runs = [
        dataclasses.replace(run, curve=tuple(curves[run.codec] - 0.1 * run.seed))
        for run in made_up([0.1, 0.2])
    ]
    (axes,) = accuracy_outcome.outcome(runs).figures["rounds"].axes
    seen = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert seen.keys() == {"no compression", "sz2 REL 0.01"}
    np.testing.assert_allclose(seen["sz2 REL 0.01"], 100 * (curves["sz2"] - 0.05))  # the mean of two seeds


@pytest.mark.parametrize(
    ("points", "verdict"),
    [
        ([-0.1, 0.0, 0.1], "within 0.5 points"),
        ([-5.0, -5.1, -4.9], "loses more than 0.5 points"),
        ([-2.0, 2.0, 0.0], "undecided: the interval reaches beyond 0.5 points"),
        ([-2.0], "one seed: no interval"),
    ],
)
def test_a_wide_interval_is_no_agreement(points: list[float], verdict: str) -> None:
    (found,) = differences(made_up(points))
    assert found.verdict == verdict


# --- the other figures ------------------------------------------------------------------------------------------------


def test_what_arrives_is_looked_at_for_every_client_and_round() -> None:
    learner = tiny(Learner(SMALL, ("digits",)), rounds=5, clients=2, lr=1e-5)
    (training,) = find([learner]).trainings
    assert training.name.endswith(", lr 1e-05, 2 clients")
    rule = fedsz.Partition()
    lossy = sum(rule.is_lossy(name, array) for name, array in training.last_two(1)[0].items())
    rounds = list(arrivals(training, "fedsz-q-dither", 1e-2, seed=1, rounds=2))
    assert [len(one.deltas) for one in rounds] == [2 * lossy, 2 * lossy]
    assert [len(one.alone) for one in rounds] == [2, 2]
    assert all(given > 2 * alone for one in rounds for given, alone in zip(one.given, one.alone, strict=True))


def test_a_ratio_is_that_of_the_whole_payload_of_a_trained_state(tmp_path: Path) -> None:
    learner = tiny(Learner(SMALL, ("digits",)))
    found = find([learner])
    size = ratio.Ratio((learner,), ("fedsz-q",), (1e-2,))
    rows = ratio.run(size, found, tmp_path, quiet).data["ratio"]
    before, after = found.trainings[0].last_two(1)
    assert any((before[name] != after[name]).any() for name in after)
    payload = fedsz.compress(after, ErrorBound("REL", 1e-2), codec="fedsz-q", lossless="blosc-lz")
    plain = next(row for row in rows if not row["reference"])
    assert plain["payload_bytes"] == len(payload)
    assert plain["ratio"] == fedsz.update_bytes(after) / len(payload)
    assert 0.5 < plain["error_over_bound"] <= 1
    given = next(row for row in rows if row["reference"])
    assert given["ratio"] > plain["ratio"]  # two steps move little


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (5.5, 12.6, "agrees"),
        (6.5, 7.5, "agrees: within the range; lower end higher, upper end lower"),
        (4.0, 12.6, "does not agree; lower end lower, upper end agrees"),
    ],
)
def test_a_range_of_ratios_is_judged_by_both_ends(low: float, high: float, word: str) -> None:
    def row(training: str, value: float) -> ratio.RatioRow:
        return ratio.RatioRow("p", training, 1, "sz2", False, 1e-2, round(1000 * value), 1000, 1.0)

    (verdict,) = ratio.outcome([row("a", low), row("b", high)]).verdicts
    assert verdict.verdict == word


@pytest.mark.parametrize(
    ("law", "draw"),
    [
        ("uniform", lambda random: random.uniform(-1, 1, 20_000)),
        ("laplace", lambda random: random.laplace(0, 0.2, 20_000)),
        ("gaussian", lambda random: random.normal(0, 0.4, 20_000)),
    ],
)
def test_distances_find_the_law(law: str, draw: Callable[[np.random.Generator], np.ndarray]) -> None:
    values = draw(np.random.default_rng(1))
    found = errors.distances_of(values, 1.0)
    assert min(found, key=found.__getitem__) == law
    assert found[law] < 0.015
    expected = stats.kstest(values, errors.fits(values, 1.0)[law].cdf).statistic
    assert found[law] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("leads", "word", "told"),
    [
        ((0.020, 0.021, 0.022), "agrees", "in 1 of 1 pooled cases, another law in 0"),
        ((-0.020, -0.021, -0.022), "does not agree", "in 0 of 1 pooled cases, another law in 1"),
        ((-0.002, 0.001, 0.002), "undecided: another law is as near", "in 0, not to be told in 1"),
        ((0.020,), "agrees", "in 1 of 1"),  # one seed has no interval: its value is all there is
    ],
)
def test_the_nearest_law_is_told_by_the_interval_over_seeds(
    leads: tuple[float, ...], word: str, told: str
) -> None:
    """*leads*: by how much Laplace is nearer than Gauss, one a seed."""
    rows = []
    for seed, lead in enumerate(leads):
        blank = errors.ErrorRow("m, d", "sz2", 1e-2, "w", seed, 9, 0.008, 0.08, 0.06, -1.2, 0.0, 0.0)
        rows += [
            blank,
            dataclasses.replace(blank, tensor="pooled", uniform=0.2, laplace=0.03, gaussian=0.03 + lead),
        ]
    (verdict,) = errors.outcome(rows).verdicts
    assert verdict.verdict == word
    assert told in verdict.ours
    assert f"nearest for 0 of {len(leads)} tensors alone" in verdict.ours
    assert errors.leads([row for row in rows if row.tensor == "pooled"]) == pytest.approx(leads)
    if len(leads) > 1:
        assert ends(leads) == pytest.approx(stats.ttest_1samp(leads, 0).confidence_interval(0.95))


def test_the_errors_of_each_seed_are_those_of_its_own_model(tmp_path: Path) -> None:
    learner = tiny(Learner(SMALL, ("digits",)), seeds=2)
    size = errors.Errors((learner,), ("fedsz-q",), (1e-2,))
    rows = errors.run(size, find([learner]), tmp_path, quiet).data["errors"]
    first, second = ([row for row in rows if row["seed"] == seed] for seed in (1, 2))
    assert [row["tensor"] for row in first] == [row["tensor"] for row in second]
    assert [row["uniform"] for row in first] != [row["uniform"] for row in second]


def test_dithered_errors_are_uniform_and_know_nothing_of_the_value() -> None:
    random = np.random.default_rng(2)
    values = random.standard_t(4, 40_000).astype(np.float32)  # heavy tails: at 1e-1 most weights round to 0
    state = {"weight": values.reshape(200, 200)}
    rows = {}
    for codec in ("fedsz-q", "fedsz-q-dither"):
        found, _ = errors.look("t", state, codec, 1e-1)
        rows[codec] = next(row for row in found if row.tensor == "weight")
    dithered, plain = rows["fedsz-q-dither"], rows["fedsz-q"]
    assert dithered.uniform < 0.01
    assert abs(dithered.correlation) < 0.02
    assert dithered.nearest == "uniform"
    assert plain.uniform > 10 * dithered.uniform
    assert plain.correlation < -0.5  # rounding to zero: the error is the value


def test_the_share_is_of_training_coding_and_averaging() -> None:
    row = cost.CostRow("m, d", 64, 1, "sz2", 1e-2, 0, 100, 10, 9.0, 0.5, 0.3, 0.2)
    assert row.share == pytest.approx(8.0)
    rows = [dataclasses.replace(row, repeat=repeat, train_s=9 + 0.01 * repeat) for repeat in range(3)]
    many = [dataclasses.replace(one, samples=6400, train_s=900.0) for one in rows]
    full, short = cost.outcome([*rows, *many]).verdicts
    assert (full.verdict, short.verdict) == ("agrees", "does not agree")


def test_gains_and_crossings_come_from_paired_rounds() -> None:
    rows = sweep_rows(repeats=6, noise=0.02, rates=(10e6, 100e6, 1e9, 10e9), codecs=("none", "sz2"))
    gains = communication.gains_of("m", rows)
    assert [gain.rate_bps for gain in gains] == 2 * [10e6, 100e6, 1e9, 10e9]  # two fleets
    for gain in gains:
        assert len(gain.whole) == 6
        assert np.allclose(np.array(gain.raw_s) - gain.coded_s, gain.saved_s)
    assert np.mean(gains[0].whole) > np.mean(gains[-1].whole)
    outcome = communication.outcome(gains, [("m", one) for one in crossovers(rows)])
    assert [verdict.claim for verdict in outcome.verdicts] == [
        "sz2 REL 0.01 pays below 500 Mbit/s",
        "m, 10 Mbit/s, sz2 REL 0.01: transfer time an order of magnitude less",
    ]


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ((1.50, 1.52, 1.51), "agrees"),
        ((0.70, 0.71, 0.72), "does not agree"),
        ((0.75, 0.92, 1.05), "undecided: the interval holds 1"),
        ((0.90,), "does not agree"),  # one repeat has no interval: its value is all there is
    ],
)
def test_scaling_is_undecided_where_the_interval_holds_one(gains: tuple[float, ...], word: str) -> None:
    assert scaling.judged(gains) == word
    times = {"none": tuple(gain * 2.0 for gain in gains), "sz2": (2.0,) * len(gains)}
    rows = [
        scaling.ScalingRow(kind, clients, 32, codec, round_s, round_s, round_s, round_s)
        for kind in ("weak", "strong")
        for clients in (1, 16)
        for codec, round_s in times.items()
    ]
    assert [verdict.verdict for verdict in scaling.outcome(rows).verdicts] == [word, word]


def test_strong_scaling_shares_the_samples() -> None:
    size = paper("scaling").reduced
    assert scaling.scenario_for(size, "weak", 8).learning.samples_per_client == 32
    shared = scaling.scenario_for(size, "strong", 8)
    assert shared.learning.samples_per_client == size.samples // 8
    assert len(shared.client_names) == 8


def test_lossless_rows_tell_whole_states_from_exact_parts(tmp_path: Path) -> None:
    learner = tiny(Learner(SMALL, ("digits",)))
    size = lossless.Lossless((learner,), ("blosc-lz", "zlib"), 2)
    rows = lossless.run(size, find([learner]), tmp_path, quiet).data["lossless"]
    assert [(row["part"], row["codec"]) for row in rows] == [
        ("whole", "blosc-lz"), ("whole", "zlib"), ("exact", "blosc-lz"), ("exact", "zlib"),
    ]  # fmt: skip
    assert all(len(row["compress_s"]) == 2 for row in rows)
    assert rows[0]["raw_bytes"] > rows[2]["raw_bytes"] > 0
