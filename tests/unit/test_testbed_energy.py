"""Energy in rows, tables and the report: power times the split that was played, labelled an estimate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from testbed_rows import sweep_rows

from devices.catalogue import profile
from devices.energy import RADIOS
from testbed.energy import FIELDS, of_round
from testbed.report_devices import devices, energy
from testbed.round import ClientOutcome, ClientPlan
from testbed.scenario import loads
from testbed.split import summarise
from testbed.tables import console, split_tables

FLEETS = """
name: energy
fleets:
  - {name: pi, count: 1, device: raspberry-pi-4, radio: wifi, uplink: 5 Mbit/s, downlink: 100 Mbit/s}
  - {name: phone, count: 1, device: pixel-6, uplink: 5 Mbit/s, downlink: 100 Mbit/s}
"""
PLAN = ClientPlan("pi-0", 1000, 5_000_000, 0.0, 0.0, 0.0, pack_s=0.5, unpack_s=0.25)
OUTCOME = ClientOutcome("pi-0", {"downlink": 0.0, "train": 10.0, "compress": 1.5, "uplink": 8.0, "decompress": 1.25,
                                 "aggregate": 0.5, "wait": 2.0}, status="ok")  # fmt: skip


def test_each_cause_is_its_power_times_its_time() -> None:
    fleet = loads(FLEETS).fleets[0]
    pi = profile("raspberry-pi-4")
    assert pi.idle_w
    assert pi.busy_w
    found = of_round(fleet, PLAN, OUTCOME)
    one_core = pi.idle_w + (pi.busy_w - pi.idle_w) / pi.cores
    assert found["energy_train_j"] == pytest.approx(10 * pi.busy_w)
    assert found["energy_code_j"] == pytest.approx(
        (1.0 + 0.25) * one_core
    )  # what it compressed and unpacked itself
    radio = RADIOS["wifi"].base_w + RADIOS["wifi"].up_w_per_mbit_s * 5.0  # 5 MB in 8 s
    assert found["energy_radio_j"] == pytest.approx(8 * (pi.idle_w + radio))
    # The server packs for half a second, decodes for one, averages for half a second; the client waits for two more.
    assert found["energy_wait_j"] == pytest.approx((0.5 + 1.0 + 0.5 + 2.0) * pi.idle_w)
    assert found["energy_j"] == pytest.approx(sum(found[name] for name in FIELDS[1:]))


def test_a_device_without_power_figures_gets_no_number() -> None:
    fleet = loads(FLEETS).fleets[1]
    assert of_round(fleet, PLAN, OUTCOME) == dict.fromkeys(FIELDS)


def test_tables_and_report_say_that_it_is_an_estimate() -> None:
    rows = [
        replace(
            row,
            energy_j=10.0 if row.codec.id == "none" else 8.0,
            energy_train_j=5.0,
            energy_code_j=1.0,
            energy_radio_j=3.0 if row.codec.id == "none" else 1.0,
            energy_wait_j=1.0,
        )
        if row.fleet == "pi"
        else row
        for row in sweep_rows(repeats=1)
    ]
    known = {item.fleet: item.energy_j for item in summarise(rows) if item.codec.id == "none"}
    assert known == {"pi": (5.0, 1.0, 3.0, 1.0), "phone": None}
    section = "".join(energy(rows))
    assert "An estimate, not a measurement" in section
    assert "20.0 %" in section  # less than raw
    assert energy(sweep_rows(repeats=1)) == []
    out = console()
    with out.capture() as captured:
        for table in split_tables(rows):
            out.print(table)
    pi, phone = captured.get().split("phone (pixel-6)")
    assert "an estimate" in pi
    assert "10 J" in pi
    assert " J " not in phone


def test_the_report_lists_factors_with_their_doubt() -> None:
    record = {
        "raspberry-pi-4": {
            "factors": {"train": 3.44, "compress": 3.37, "lossless": 2.29},
            "spreads": {"train": 2.0, "compress": 1.48, "lossless": 1.0},
            "cores": 4,
            "memory_bytes": 4096 << 20,
            "idle_w": 1.6,
            "busy_w": None,
        }
    }
    manifest = {"devices": {"profiles": record}}
    section = "".join(devices(manifest, carried=False))
    for text in ("3.37 \u00d7/\u00f7 1.48", "2.29<", "1.6<", "do not carry"):
        assert text in section
    assert "intervals carry." in "".join(devices(manifest, carried=True))
    assert devices({}, carried=False) == []
