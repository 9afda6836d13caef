"""What ``scenarios/paper/NAME.yaml`` says: an experiment at reduced and at full size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedsz.bound import ErrorBound
from testbed import known
from testbed.errors import ScenarioErrors, ScenarioProblem
from testbed.scenario import Candidate, Scenario
from testbed.scenario_schema import CANDIDATE, SCENARIO
from testbed.schema import (
    At,
    Choice,
    Integer,
    Kind,
    Known,
    ListOf,
    Number,
    Or,
    ReportedError,
    Text,
    did_you_mean,
)
from testbed.schema_record import Key, Record
from testbed.yaml_position import Table, parse

#: Where the files lie, seen from a checkout.
FOLDER = Path("scenarios") / "paper"


@dataclass(frozen=True)
class Learner:
    """One model trained as the paper trains: FedAvg, and Adam whose state starts afresh each round.

    Attributes:
        data: data sets, each of which is one training.
        image_size: side to which images are resized; None keeps the data's own.
        clients: how many train in each round; the paper has one.
        samples: training images of each client; None for an even share of all.
        max_steps: at most so many optimiser steps a round; None for whole epochs.
        test_samples: held-out images for the accuracy after each round; None for all.
        final_test_samples: the same after the last round.
        seeds: how many seeds, each with initial weights, split and order of its own.
        arms: what is sent through (accuracy only); raw values always are.
        label: tells this learner from another of the same model, data and learning rate in tables; empty for none.
    """

    model: str
    data: tuple[str, ...]
    image_size: int | None = None
    clients: int = 1
    samples: int | None = None
    rounds: int = 10
    local_epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 128
    lr: float = 1e-3
    test_samples: int | None = None
    final_test_samples: int | None = None
    seeds: int = 5
    arms: tuple[Candidate, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Ratio:
    """Every codec at every bound on trained states."""

    learners: tuple[Learner, ...]
    codecs: tuple[str, ...]
    bounds: tuple[float, ...]


@dataclass(frozen=True)
class Accuracy:
    """Paired runs with and without compression; *bounds* are also tried once on each final raw model."""

    learners: tuple[Learner, ...]
    codecs: tuple[str, ...]
    bounds: tuple[float, ...]


@dataclass(frozen=True)
class Lossless:
    """Lossless codecs on whole states and on what FedSZ codes exactly."""

    learners: tuple[Learner, ...]
    codecs: tuple[str, ...]
    repeats: int


@dataclass(frozen=True)
class Cost:
    """Compression and decompression beside a local epoch, for many and few samples."""

    learners: tuple[Learner, ...]
    arms: tuple[Candidate, ...]
    samples: tuple[int, ...]
    repeats: int


@dataclass(frozen=True)
class Communication:
    """Sweeps over the uplink's rate, one scenario a model."""

    scenarios: tuple[Scenario, ...]


@dataclass(frozen=True)
class Scaling:
    """A sweep per number of clients. Weak: each has the scenario's samples; strong: they share *samples*."""

    scenario: Scenario
    clients: tuple[int, ...]
    samples: int


@dataclass(frozen=True)
class Errors:
    """What the errors of trained states look like."""

    learners: tuple[Learner, ...]
    codecs: tuple[str, ...]
    bounds: tuple[float, ...]


@dataclass(frozen=True)
class Paper:
    """One file.

    Attributes:
        claim: what the paper says, in a sentence.
    """

    experiment: str
    description: str
    claim: str
    reduced: Any
    full: Any

    def size(self, full: bool) -> Any:
        """The settings to run."""
        return self.full if full else self.reduced

    @staticmethod
    def label(full: bool) -> Literal["full", "reduced"]:
        """The size in a word."""
        return "full" if full else "reduced"


_MODEL = Known("model", known.models, known.OUR_MODELS)
_DATA = ListOf(Known("data set", known.datasets), shortest=1)
_CODECS = ListOf(Known("codec", known.codecs), shortest=1)
_BOUNDS = ListOf(Number(0, 1, above=True, example="1e-2"), shortest=1)
_ARMS = ListOf(CANDIDATE)

_LEARNER = Record(
    Learner,
    [
        Key("model", _MODEL, "which network is trained: cnn, or torchvision's name for it"),
        Key("data", _DATA, "data sets, one training each"),
        Key("image_size", Or(None, Integer(8, 1024)), "side in pixels; null keeps the data's own"),
        Key("clients", Integer(1, 1000), "how many train in each round; the paper has one"),
        Key("samples", Or(None, Integer(2)), "training images of each client; null for an even share of all"),
        Key("rounds", Integer(1), "communication rounds"),
        Key("local_epochs", Integer(1), "passes over the data in a round"),
        Key("max_steps", Or(None, Integer(1)), "at most so many optimiser steps a round; null for no limit"),
        Key("batch_size", Integer(2), "images in a step"),
        Key("lr", Number(0, above=True), "learning rate of Adam"),
        Key("test_samples", Or(None, Integer(1)), "held-out images after each round; null for all"),
        Key("final_test_samples", Or(None, Integer(1)), "held-out images after the last; null for all"),
        Key("seeds", Integer(1, 1000), "how many seeds"),
        Key("arms", _ARMS, "codecs and bounds to train through, for the accuracy"),
        Key("label", Text(), "tells it from another learner of the same model, data and learning rate"),
    ],
    label="model",
)
_LEARNERS = Key("learners", ListOf(_LEARNER, shortest=1), "what is trained")

#: Kind of an experiment's size, by the experiment's name.
SIZES: dict[str, Kind[Any]] = {
    "ratio": Record(
        Ratio, [_LEARNERS, Key("codecs", _CODECS, "lossy codecs"), Key("bounds", _BOUNDS, "relative bounds")]
    ),
    "accuracy": Record(
        Accuracy,
        [
            _LEARNERS,
            Key("codecs", _CODECS, "codecs tried once on each final model"),
            Key("bounds", _BOUNDS, "relative bounds for the same"),
        ],
    ),
    "lossless": Record(
        Lossless,
        [
            _LEARNERS,
            Key("codecs", ListOf(Known("lossless codec", known.lossless_codecs), shortest=1), "lossless codecs"),
            Key("repeats", Integer(1), "timings of each"),
        ],
    ),
    "cost": Record(
        Cost,
        [
            _LEARNERS,
            Key("arms", _ARMS, "codecs and bounds"),
            Key("samples", ListOf(Integer(2), shortest=1), "training images of a client, from few to many"),
            Key("repeats", Integer(1), "timings of each"),
        ],
    ),
    "communication": Record(
        Communication, [Key("scenarios", ListOf(SCENARIO, shortest=1), "sweeps over uplink.rate and codec")]
    ),
    "scaling": Record(
        Scaling,
        [
            Key("scenario", SCENARIO, "one fleet, whose count is replaced, and a sweep over codec"),
            Key("clients", ListOf(Integer(1), shortest=1), "numbers of clients"),
            Key("samples", Integer(2), "strong scaling: training images shared by all clients"),
        ],
    ),
    "errors": Record(
        Errors, [_LEARNERS, Key("codecs", _CODECS, "lossy codecs"), Key("bounds", _BOUNDS, "relative bounds")]
    ),
}  # fmt: skip
NAMES = tuple(SIZES)


def bound_of(arm: Candidate) -> ErrorBound:
    """An arm's bound; the paper's where none is given."""
    return arm.bound if arm.bound is not None else ErrorBound("REL", 1e-2)


def is_paper(path: Path) -> bool:
    """Whether a YAML file is one of these and not a scenario."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False  # whoever reads it next says so
    return any(line.startswith("experiment:") for line in lines)


def locate(name: str) -> Path:
    """The file of an experiment: *name* itself where it is a file, else that of the scenarios beside the code.

    Raises: ScenarioErrors where there is none.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    for folder in (FOLDER, Path(__file__).resolve().parents[2] / FOLDER):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known_names = ", ".join(NAMES)
    why = f"unknown experiment{did_you_mean(name, NAMES) or ';'} known: {known_names}, or name a YAML file"
    if name in NAMES:
        why = f"{FOLDER / name}.yaml is neither here nor beside the code; name the file"
    raise ScenarioErrors(name, [ScenarioProblem(name, 1, 1, "", why)])


def loads(text: str, name: str = "<paper>") -> Paper:
    """Read one file's text. ScenarioErrors with everything that is wrong."""
    tree, problems = parse(text, name)
    at = At(problems)
    found: Paper | None = None
    with contextlib.suppress(ReportedError):
        found = _kind(tree, at).read(tree, at)
    if problems or found is None:
        raise ScenarioErrors(name, sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return found


def load(path: Path) -> Paper:
    """Read one file. ScenarioErrors; those of reading, too."""
    try:
        return loads(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ScenarioErrors(str(path), [ScenarioProblem(str(path), 1, 1, "", why)]) from None


def _kind(tree: Any, at: At) -> Record:
    """The file's keys depend on its experiment."""
    which: Kind[str] = Choice(*NAMES)
    if not isinstance(tree, Table):
        raise at.refuse(tree.place, f"a mapping is expected, with experiment: one of {', '.join(NAMES)}")
    if "experiment" not in tree.entries:
        raise at.refuse(tree.place, f"missing key 'experiment': one of {', '.join(NAMES)}")
    size = SIZES[which.read(tree.entries["experiment"], at.key("experiment"))]
    keys: list[tuple[str, Kind[Any], str]] = [
        ("experiment", which, "which of the paper's experiments"),
        ("description", Text(), "what it measures"),
        ("claim", Text(), "what the paper says"),
        ("reduced", size, "what two cores do in minutes or hours"),
        ("full", size, "the paper's models, data and rounds"),
    ]
    build: Callable[..., Any] = Paper
    return Record(build, [Key(name, kind, doc) for name, kind, doc in keys])
