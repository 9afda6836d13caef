"""A first scenario for somebody who has none: short, commented, and ready to run."""

from __future__ import annotations

from pathlib import Path

from testbed.files import write_once

TEMPLATE = """\
# Your experiment. Every key that is left out has a default: `testbed show FILE` prints them all.
# Numbers carry units (10 Mbit/s, 20 ms, 1 %); a misspelt key is an error, with its line and what was probably meant.

name: my-experiment       # stands in the result folder's name
description: At which uplink rate does compressing stop paying for my devices?
seed: 1                   # the same seed gives the same weights, data split and training

learning:
  model: mobilenet_v2     # cnn for a quick try; torchvision's classifiers by their names
  data: fashion-mnist     # digits, which needs no download, stands in where it cannot be had, and is named
  rounds: 1
  batch_size: 32
  max_steps: 4            # optimiser steps a client and round; remove it for whole epochs
  test_samples: 500       # images that the accuracy is computed from; all of them take a minute for each new model

network:
  engine: mininet         # real links, needs root on Linux; model computes them anywhere

fleets:                   # groups of like clients; `device` is a profile (docs/devices.md lists them)
  - name: pi
    count: 2
    device: raspberry-pi-4
    uplink: {rate: 10 Mbit/s}     # add delay: 20 ms, loss: 1 % or a trace where your kernel has netem
    downlink: 50 Mbit/s

compression:
  codec: sz2
  bound: {mode: REL, value: 1e-2} # no value moves by more than 1 % of its tensor's range

sweep:                    # `testbed sweep` measures every combination; `testbed run` ignores this part
  uplink.rate: 10, 50, 200, 1000 Mbit/s
  codec: [none, sz2, fedsz-q]     # none is what the others are compared with
  repeats: 2              # six or more give a 95 % interval
  work: drawn             # equal work is measured once; `measured` repeats it in every cell
"""


def write_template(path: Path) -> None:
    """Write the template; ResultsExistError where *path* exists, and nothing changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_once(path, TEMPLATE)
