"""Result rows of a made-up sweep whose crossover is known exactly. For tests of statistics and pictures only."""

from __future__ import annotations

import random

from testbed.row import CodecUsed, Row

RATES = (10e6, 20e6, 50e6, 100e6, 200e6, 500e6, 1000e6, 2000e6)
# id -> (seconds to compress, to decompress, payload bytes) of an update of 9 MB on the slower fleet.
CODECS = {
    "none": (0.004, 0.004, 9_000_400),
    "sz2": (0.100, 0.080, 1_380_000),
    "sz3": (0.060, 0.030, 1_300_000),
    "fedsz-q": (0.008, 0.004, 1_230_000),
}
UPDATE_BYTES = 9_000_000
FLEETS = {"pi": ("raspberry-pi-4", 3.0), "phone": ("pixel-6", 1.0)}
CLIENTS = 2
# Share of the link's rate that payload gets.
EFFICIENCY = 0.957


def true_crossover_bps(fleet: str, codec: str) -> float:
    """Where round times with and without *codec* are equal without noise: 8 (S - S') / (rate x efficiency) = extra."""
    slower = FLEETS[fleet][1]
    compress, decompress, payload = CODECS[codec]
    raw_compress, raw_decompress, raw_payload = CODECS["none"]
    extra_s = (compress - raw_compress) * slower + decompress - raw_decompress
    return 8 * (raw_payload - payload) / EFFICIENCY / extra_s


def sweep_rows(
    repeats: int = 5,
    noise: float = 0.0,
    seed: int = 1,
    codecs: tuple[str, ...] = tuple(CODECS),
    rates: tuple[float, ...] = RATES,
) -> list[Row]:
    """All rows of the sweep; *noise* is the relative spread of every duration."""
    draw = random.Random(seed)
    rows = []
    cell = 0
    for repeat in range(repeats):
        for rate in rates:
            for codec in codecs:
                rows += _cell_rows(draw, noise, cell, repeat, rate, codec)
                cell += 1
    return rows


def _cell_rows(
    draw: random.Random, noise: float, cell: int, repeat: int, rate: float, codec: str
) -> list[Row]:
    compress, decompress, payload = CODECS[codec]
    clients = [(fleet, index) for fleet in FLEETS for index in range(CLIENTS)]
    parts = []
    for fleet, _ in clients:
        slower = FLEETS[fleet][1]

        def about(seconds: float) -> float:
            return seconds * draw.gauss(1.0, noise) if noise else seconds

        parts.append(
            {
                "downlink": 8 * 9_000_400 / EFFICIENCY / 100e6,
                "train": about(0.9) * slower,
                "compress": about(compress) * slower,
                "uplink": about(8 * payload / EFFICIENCY / rate),
                "decompress": about(decompress),
                "aggregate": 0.01,
            }
        )
    longest = max(sum(part.values()) for part in parts)
    rows = []
    for (fleet, index), part in zip(clients, parts, strict=True):
        seconds = {**part, "wait": longest - sum(part.values())}
        rows.append(
            Row(
                run="made-up",
                cell=cell,
                variant=cell % (len(RATES) * len(CODECS)),
                repeat=repeat,
                round=0,
                client=f"{fleet}-{index}",
                fleet=fleet,
                device=FLEETS[fleet][0],
                status="ok",
                engine="model",
                dilation=1.0,
                uplink_rate_bps=rate,
                downlink_rate_bps=100e6,
                codec=CodecUsed(codec) if codec == "none" else CodecUsed(codec, "REL", 0.01),
                **{f"{name}_s": value for name, value in seconds.items()},
                round_s=longest,
                update_bytes=UPDATE_BYTES,
                payload_bytes=payload,
                compression_ratio=UPDATE_BYTES / payload,
                max_error=None if codec == "none" else 0.004,
                max_error_over_bound=None if codec == "none" else 0.98,
                values={"uplink.rate": f"{rate / 1e6:g} Mbit/s", "codec": codec},
                accuracy=0.61,
                source={"train": "measured", "uplink": "modelled"},
            )
        )
    return rows
