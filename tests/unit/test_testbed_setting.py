"""What a sweep varied besides codec and rate, in words."""

from __future__ import annotations

import dataclasses

import pytest
from testbed_rows import sweep_rows

from testbed.crossover import crossovers
from testbed.plot import figures
from testbed.setting import setting_text, setting_words


@pytest.mark.parametrize(
    ("axis", "value", "words"),
    [
        ("network.server.downlink.rate", "20 Mbit/s", "server downlink 20 Mbit/s"),
        ("fleets.pi.uplink.delay", "20 ms", "pi uplink delay 20 ms"),
        ("compression.reference", "True", "reference on"),
        ("rounds_policy.take", "None", "rounds take not set"),
        ("rounds_policy.kind", "async", "rounds async"),
        ("policy", "never", "policy never"),
        ("seed", "3", "seed 3"),
    ],
)
def test_a_setting_is_said_in_words(axis, value, words):
    assert setting_words(axis, value) == words
    assert setting_text([(axis, value), ("lr", "0.1")], "; ") == f"{words}; lr 0.1"
    assert setting_text([]) == ""


def of_policies():
    """Raw rounds under ``never``, compressed ones under ``always``; nobody swept the codec."""
    policies = {"none": "never", "sz2": "always"}
    rows = sweep_rows(repeats=2, rates=(10e6, 1e9), codecs=tuple(policies))
    return [
        dataclasses.replace(
            row,
            values={key: value for key, value in row.values.items() if key != "codec"}
            | {"policy": policies[row.codec.id]},
        )
        for row in rows
    ]


def test_a_round_that_the_policy_left_raw_is_the_partner_of_the_one_it_compressed():
    found = crossovers(of_policies())
    plain = crossovers(sweep_rows(repeats=2, rates=(10e6, 1e9), codecs=("none", "sz2")))
    assert [item.setting for item in found] == [{"policy": "always"}] * 2
    assert [item.measured for item in found] == [item.measured for item in plain]
    assert all(item.pairs and not item.alone for item in found)


def test_the_legend_names_what_any_panel_shows():
    rows = [
        dataclasses.replace(row, round=number, accuracy=0.5, started_s=number * row.round_s)
        for row in of_policies()
        for number in (0, 1)
    ]
    (legend,) = figures(rows, [])["accuracy"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["no compression", "sz2"]
