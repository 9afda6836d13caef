"""The scenario language as tables: which keys exist, what each may hold, and one sentence about each.

Reading, writing back, the axes of a sweep, the JSON Schema and the reference in the documentation all come from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from netem.link import AccessLink, LinkSpec
from testbed import known
from testbed.scenario import (
    Candidate,
    Compression,
    DeviceOptions,
    Dirichlet,
    Fleet,
    Learning,
    NetworkSpec,
    RoundPolicy,
    Scenario,
)
from testbed.scenario_include import INCLUDE
from testbed.schema import (
    Choice,
    Flag,
    Integer,
    Known,
    ListOf,
    Number,
    Or,
    Text,
    duration,
    fraction,
    rate,
    size,
)
from testbed.schema_availability import AVAILABILITY
from testbed.schema_bound import Bound
from testbed.schema_device import DeviceKind, ProfileKind
from testbed.schema_own import KnownOrFile
from testbed.schema_record import Key, Record
from testbed.schema_sweep import SweepKind
from testbed.schema_trace import LinkKind, TraceKind

LINK = LinkKind(
    LinkSpec,
    [
        Key(
            "rate",
            rate(),
            "bits per second on the wire, Ethernet headers counted; not needed with a trace",
            "rate_bps",
            None,
        ),
        Key("delay", duration(60.0), "one-way propagation delay", "delay_s"),
        Key("jitter", duration(60.0), "each packet's delay varies by up to this much", "jitter_s"),
        Key("loss", fraction(high=0.999), "chance that a packet is lost"),
        Key("reorder", fraction(high=0.999), "chance that a packet overtakes those before it"),
        Key("trace", Or(None, TraceKind()), "rate over time, from a CSV file or a list of points"),
    ],
    shorthand="rate",
)

ACCESS_LINK = Record(
    AccessLink,
    [
        Key("uplink", LINK, "what leaves this node", default=LinkSpec(10e9)),
        Key("downlink", LINK, "what enters this node", default=LinkSpec(10e9)),
    ],
)

DIRICHLET = Record(
    Dirichlet,
    [Key("dirichlet", Number(0, above=True), "alpha; small is uneven, large is even", "alpha")],
)


LEARNING = Record(
    Learning,
    [
        Key(
            "model",
            KnownOrFile(
                "model", known.models, known.OWN_MODEL, known.own, "my_model.py:build", known.OUR_MODELS
            ),
            "which network is trained: cnn, torchvision's name for it, or FILE.py:FUNCTION",
        ),
        Key(
            "data",
            KnownOrFile("data set", known.datasets, known.OWN_DATA, known.own, "images.npz"),
            "which images: a data set's name, or FILE.npz",
        ),
        Key(
            "fallback_data",
            Or(None, Known("data set", known.datasets)),
            "images to use where *data* cannot be had; null to refuse",
        ),
        Key("data_dir", Or(None, Text()), "folder with the data; null looks in the usual places"),
        Key("rounds", Integer(1), "communication rounds in each cell"),
        Key("local_epochs", Integer(1), "passes over its data that a client makes in a round"),
        Key(
            "max_steps",
            Or(None, Integer(1)),
            "at most this many optimiser steps in a round; null for no limit",
        ),
        Key("batch_size", Integer(1), "images in a step"),
        Key(
            "samples_per_client",
            Or(None, Integer(1)),
            "at most this many images a client; null for a full share",
        ),
        Key("split", Or("iid", DIRICHLET), "how the data is spread: iid, or {dirichlet: ALPHA}"),
        Key("optimizer", Choice("sgd", "adam"), "what the clients train with"),
        Key("lr", Number(0, above=True), "learning rate"),
        Key("momentum", Number(0, 1), "of sgd"),
        Key("weight_decay", Number(0), "L2 penalty of the optimiser"),
        Key("prox_mu", Number(0), "weight of FedProx's proximal term; 0 is FedAvg"),
        Key("test_samples", Or(None, Integer(1)), "test images for the accuracy; null for all"),
        Key("image_size", Or(None, Integer(8, 1024)), "side in pixels; null keeps the data's own"),
        Key("evaluate", Flag(), "whether the accuracy is computed after each round"),
        Key(
            "checkpoint",
            Flag(),
            "keep the model after each round; a killed run goes on in the middle of a cell",
        ),
    ],
)

NETWORK = Record(
    NetworkSpec,
    [
        Key("engine", Choice("mininet", "model"), "mininet: real links (root); model: computed ones"),
        Key("server", ACCESS_LINK, "the server's access link, shared by all clients"),
        Key("congestion_control", Text(r"[a-z0-9_-]{1,15}", "the kernel's name of an algorithm is expected, "
            "for example cubic"), "TCP's congestion control, named in every run"),
        Key("dilation", Or("auto", Number(0, 1e6, above=True)), "links run this many times faster"),
        Key("timeout", duration(above=True), "wall-clock limit of one transfer", "timeout_s"),
    ],
)  # fmt: skip

FLEET = Record(
    Fleet,
    [
        Key(
            "name",
            Text(
                r"[a-z][a-z0-9]*(-[a-z0-9]+)*",
                "a name is small letters, digits and single hyphens, for example 'pi'",
            ),
            "stands in client names (pi-0, pi-1, ...)",
        ),
        Key("count", Integer(1, 10_000_000), "how many clients"),
        Key(
            "device",
            DeviceKind(Known("device", known.devices)),
            "which hardware the clients are: a name, or a file that testbed calibrate wrote",
        ),
        Key("uplink", LINK, "client to server"),
        Key("downlink", LINK, "server to client"),
        Key(
            "limits",
            Choice("scale", "quota"),
            "scale work times by the device's factors, or have the kernel hold the work back (root)",
        ),
        Key(
            "memory",
            Or(None, size(4 << 20)),
            "ceiling of a client's memory, exceeding it kills the client (root); null: the device's, with quota",
            "memory_bytes",
        ),
        Key(
            "radio",
            Choice("none", "wifi", "lte", "3g"),
            "what the device sends with, for the energy estimate",
        ),
        Key("availability", Or(None, AVAILABILITY), "when the clients are there to be asked; null: always"),
    ],
    label="name",
)


CANDIDATE = Record(
    Candidate,
    [
        Key("codec", Known("codec", known.codecs), "which codec"),
        Key("bound", Or(None, Bound()), "its error bound; null for the scenario's"),
    ],
    shorthand="codec",
)


COMPRESSION = Record(
    Compression,
    [
        Key("codec", Known("codec", known.codecs), "which codec; none sends raw values"),
        Key("bound", Bound(), "error bound: {mode: REL, value: 1e-2}, or short 'REL 1e-2'"),
        Key("lossless", Or(None, Known("lossless codec", known.lossless_codecs)), "for the rest; null: default"),
        Key("threshold", Integer(0), "only tensors with more values than this go lossy"),
        Key("names", ListOf(Text()), "parts of the names of tensors that go lossy, or patterns with * ? ["),
        Key("by_data", Flag(), "what lossless coding gains little on goes lossy, whatever its name"),
        Key("reference", Flag(), "code against the global model that both sides hold"),
        Key("downlink", Flag(), "compress what the server sends, too"),
        Key("policy", Choice("always", "never", "auto"), "when to compress; auto: where it pays"),
        Key("among", ListOf(CANDIDATE), "what auto chooses among: codecs, or {codec, bound}; empty: codec"),
    ],
)  # fmt: skip


def _policy_rules(policy: RoundPolicy) -> Iterator[tuple[str, str]]:
    if policy.sample is not None and policy.ask is not None:
        yield "ask", "either 'ask' or 'sample', not both"
    if policy.take is not None and policy.ask is not None and policy.take > policy.ask:
        yield "take", f"takes {policy.take} arrivals but asks only {policy.ask} clients"
    if policy.kind == "async":
        for key, value in (
            ("deadline", policy.deadline_s),
            ("sample", policy.sample),
            ("ask", policy.ask),
            ("take", policy.take),
        ):
            if value is not None:
                yield key, "belongs to synchronous rounds; kind async has 'buffer' and 'concurrency'"


ROUND_POLICY = Record(
    RoundPolicy,
    [
        Key("kind", Choice("sync", "async"), "sync: rounds (FedAvg); async: a buffer of updates (FedBuff)"),
        Key(
            "deadline",
            Or(None, duration(above=True)),
            "the server stops waiting; null waits for all",
            "deadline_s",
        ),
        Key(
            "sample", Or(None, fraction(above=True)), "fraction of the clients asked each round; null for all"
        ),
        Key("ask", Or(None, Integer(1)), "how many clients are asked each round; null for all"),
        Key("take", Or(None, Integer(1)), "the round ends with this many arrivals; null for all asked"),
        Key("dropout", fraction(high=0.999), "chance that an asked client falls silent while it trains"),
        Key("crash", fraction(), "chance that an asked client dies in the middle of its upload"),
        Key(
            "crash_at",
            Or(None, fraction(low=0.001, high=0.999)),
            "after which share of its bytes; null: drawn",
        ),
        Key("buffer", Integer(1), "async: updates in one average; the paper's K"),
        Key("concurrency", Or(None, Integer(1)), "async: clients at work at any time; null: all"),
        Key(
            "staleness_exponent",
            Number(0),
            "async: an update tau versions old weighs (1 + tau)^-this; 0: all alike",
        ),
        Key(
            "server_lr", Number(0, above=True), "async: how far the model moves along the mean of the buffer"
        ),
    ],
    check=_policy_rules,
)


DEVICE_OPTIONS = Record(
    DeviceOptions,
    [
        Key(
            "host",
            Or(None, ProfileKind()),
            "this machine's profile, from testbed calibrate; null takes it for the reference host",
        ),
        Key("doubt", Flag(), "widen the crossovers' intervals by the stated doubt of the devices' factors"),
    ],
)


def _scenario_rules(scenario: Scenario) -> Iterator[tuple[str, str]]:
    for name, times in Counter(fleet.name for fleet in scenario.fleets).items():
        if times > 1:
            yield "fleets", f"{times} fleets are called {name!r}; names are unique"
    profiles = {fleet.device_name: fleet.device for fleet in scenario.fleets}
    for fleet in scenario.fleets:
        if fleet.device != profiles[fleet.device_name]:
            yield "fleets", f"two different devices are called {fleet.device_name!r}"
    clients = sum(fleet.count for fleet in scenario.fleets)
    policy = scenario.rounds_policy
    if policy.ask is not None and policy.ask > clients:
        yield "rounds_policy", f"asks {policy.ask} clients but the fleets have {clients}"
    if policy.take is not None and policy.take > policy.asked(clients):
        yield "rounds_policy", f"takes {policy.take} arrivals but asks only {policy.asked(clients)} clients"
    if policy.concurrency is not None and policy.concurrency > clients:
        yield "rounds_policy", f"keeps {policy.concurrency} clients at work but the fleets have {clients}"
    if policy.kind == "async" and scenario.network.engine == "mininet":
        yield "rounds_policy", ASYNC_IS_MODELLED
    if policy.kind == "async" and scenario.learning.checkpoint:
        yield (
            "learning",
            "checkpoint belongs to synchronous rounds; kind async is measured anew from its first update",
        )


# Why asynchronous rounds are refused over real links; docs/clock.md has it at length.
ASYNC_IS_MODELLED = (
    "kind async needs network.engine: model. Which model a client trains on hangs on whose upload was there first, so "
    "its work cannot be done before the packets fly; done while they fly, it would slow them down and they it"
)

SWEEP = SweepKind()

SCENARIO = Record(
    Scenario,
    [
        Key("name", Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name is letters, digits, '.', '_' and '-'"),
            "stands in the result folder's name"),
        Key("seed", Integer(0, 2**63 - 1), "every random draw comes from it"),
        Key("description", Text(), "one or two sentences for the report"),
        Key("learning", LEARNING, "what the clients train"),
        Key("network", NETWORK, "which engine carries the bytes, and the server's link"),
        Key("fleets", ListOf(FLEET, shortest=1), "groups of like clients"),
        Key("compression", COMPRESSION, "how an update becomes bytes"),
        Key("rounds_policy", ROUND_POLICY, "who takes part and how long the server waits"),
        Key("devices", DEVICE_OPTIONS, "what holds for all devices: this machine's profile, doubt"),
        Key("sweep", SWEEP, "what varies from cell to cell"),
    ],
    check=_scenario_rules,
    beside=[INCLUDE],
)  # fmt: skip
