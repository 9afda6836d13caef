"""What a scenario's compression does to real models: which tensors go lossy, and against what downlinks are coded."""

from __future__ import annotations

import numpy as np
import pytest
from test_testbed_cli import command

import fedsz
from testbed.coding import decode_update, encode_update
from testbed.learning.models import ModelSpec, initial_state
from testbed.policy import settings_of
from testbed.record import read_results
from testbed.row import Row
from testbed.scenario import loads

pytestmark = pytest.mark.usefixtures("kept_workers")

SCENARIO = """
name: downlink
seed: 3
learning: {model: cnn, data: digits, image_size: 8, rounds: 4, max_steps: 1, batch_size: 16, lr: 0.05, evaluate: false}
network: {engine: model}
fleets:
  - {name: pi, count: 3, device: raspberry-pi-4, uplink: 10 Mbit/s, downlink: 100 Mbit/s}
rounds_policy: {sample: 0.66}
compression: {codec: fedsz-q, downlink: true, reference: true}
"""


def test_a_position_embedding_goes_lossy_by_data() -> None:
    """It has no "weight" in its name; the paper's rule alone would send it whole."""
    text = SCENARIO.replace("downlink: true, reference: true", "by_data: true, names: [weight, '*.in_proj*']")
    compression = loads(text).compression
    assert compression.partition == fedsz.Partition(1024, ("weight", "*.in_proj*"), True)
    state = initial_state(ModelSpec("vit_b_16", 10, in_channels=1, image_size=32), seed=0)
    name = "encoder.pos_embedding"
    kept = {key: state[key] for key in (name, "class_token", "encoder.layers.encoder_layer_0.ln_1.weight")}
    by_name = encode_update(kept, settings_of(loads(SCENARIO).compression), None, 1).payload
    by_data = encode_update(kept, settings_of(compression), None, 1).payload
    assert [row.name for row in fedsz.inspect(by_name).tensors if row.lossy] == []
    assert [row.name for row in fedsz.inspect(by_data).tensors if row.lossy] == [name]
    assert len(by_data) < len(by_name) / 3
    decoded = decode_update(by_data, None, 1, "fedsz-q", 1 << 30).state[name]
    assert 0 < np.abs(decoded - kept[name]).max() <= 0.01 * np.ptp(kept[name])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("downlink")
    (folder / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    done = command("run", "s.yaml", "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return list(read_results(folder / "out").rows)


def test_downlinks_fall_back_for_new_clients_and_after_a_missed_round_and_rows_say_so(
    rows: list[Row],
) -> None:
    asked = [{row.client for row in rows if row.round == number} for number in range(4)]
    seen = {(row.round, row.client): row for row in rows}
    held = {(number, client) for number in range(1, 4) for client in asked[number] & asked[number - 1]}
    assert held
    assert len(held) < len(rows) - 2  # somebody missed a round
    for place, row in seen.items():
        assert row.status == "ok"
        assert row.reference  # it has just received the model that its update is coded against
        assert row.downlink_reference == (place in held), place
    whole = {row.downlink_payload_bytes for row in rows if not row.downlink_reference}
    given = {row.downlink_payload_bytes for row in rows if row.downlink_reference}
    assert max(given) < min(whole) / 2
