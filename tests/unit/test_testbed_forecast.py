"""A dry run says what a sweep would cost, and starts nothing."""

from __future__ import annotations

from pathlib import Path

from test_testbed_cli import command

from testbed.forecast import forecast
from testbed.scenario import loads

SMALL = """
name: small
learning: {{model: cnn, data: digits, rounds: {rounds}, max_steps: 1, batch_size: 8}}
network: {{engine: {engine}, server: {{uplink: 1 Gbit/s, downlink: 1 Gbit/s}}}}
fleets: [{{name: a, count: 3, device: cloud-vm, uplink: 10 Mbit/s, downlink: 100 Mbit/s}}]
sweep: {{codec: [none, fedsz-q], repeats: 2, work: drawn}}
"""


def test_transfers_and_rows_are_counted_as_they_will_be() -> None:
    scenario = loads(SMALL.format(rounds=2, engine="mininet"))
    found = forecast(scenario, keep_payloads=True)
    assert (len(found.cells), found.rounds) == (4, 4 * 2 * 3)
    # Raw updates at 10 Mbit/s are two of the four cells; all four begin with a raw download at 100 Mbit/s.
    bits = 8 * found.model_bytes
    least_s = 2 * (2 * bits / 10e6 + 4 * bits / 100e6)
    assert least_s < found.emulated_s < 2 * least_s + 8 * 5.0
    assert 0 < found.transfers_s < found.emulated_s
    assert found.disk_bytes > 24 * found.model_bytes
    modelled = forecast(scenario.with_engine("model"))
    assert modelled.transfers_s == 0
    assert modelled.disk_bytes < 24 * 10_000


def test_asynchronous_updates_are_counted_one_by_one() -> None:
    text = (
        SMALL.format(rounds=4, engine="model") + "rounds_policy: {kind: async, buffer: 2, concurrency: 2}\n"
    )
    found = forecast(loads(text))
    # Four models of two updates each, and at most two more under way when the last one is made.
    assert 4 * 8 <= found.rounds <= 4 * 10
    # Two clients at a time: four uploads one after the other, raw in two of the four cells.
    least_s = 2 * 4 * 8 * found.model_bytes / 10e6
    assert least_s < found.emulated_s < 2 * least_s + 4 * 8 * 5.0


def test_a_dry_run_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SMALL.format(rounds=1, engine="model"), encoding="utf-8")
    done = command("sweep", "s.yaml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cell 3: repeat 1, codec fedsz-q" in done.stdout
    assert "4 cells, 12 client-rounds" in done.stdout
    assert done.stdout.endswith("nothing was started\n")
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]
