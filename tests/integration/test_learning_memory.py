"""A ceiling that kills: the same training dies on a small device and runs on a larger one."""

import numpy as np
import pytest

from devices import Limits, Worker, WorkerDiedError
from testbed.learning.data import cached_dataset
from testbed.learning.federation import with_samples
from testbed.learning.models import ModelSpec, initial_state
from testbed.learning.training import TrainTask, train_client

pytestmark = [pytest.mark.root, pytest.mark.beside]


def test_resnet50_dies_at_512_mb_and_trains_at_4_gb():
    spec = ModelSpec("resnet50", classes=10, in_channels=1, image_size=32)
    digits = cached_dataset("digits")
    task = with_samples(
        TrainTask(spec, initial_state(spec, 1), "digits", np.arange(8), seed=1, batch_size=8, max_steps=1),
        digits,
    )
    with (
        Worker(Limits(memory_bytes=512_000_000)) as small,
        pytest.raises(WorkerDiedError, match=r"^out of memory at 512 MB while training$"),
    ):
        small.call_as("training", train_client, task)
    with Worker(Limits(memory_bytes=4_000_000_000)) as large:
        result, took = large.call_as("training", train_client, task)
    assert result.steps == 1
    assert 512_000_000 < took.peak_bytes < 4_000_000_000
