"""The worker without limits: results, errors, measurements. Needs no root."""

import os
import signal
import sys
import time

import numpy as np
import pytest

from devices import Worker, WorkerDiedError
from devices.errors import NotImportableError, WorkerCallError, WorkerTimeoutError


def add(first: int, second: int = 0) -> int:
    return first + second


def thread_settings() -> dict[str, str]:
    return {name: os.environ[name] for name in os.environ if name.endswith("_NUM_THREADS")}


def negate(values: np.ndarray) -> np.ndarray:
    np.negative(values, out=values)
    return values


def use_memory(count: int) -> int:
    return sum(bytearray(b"\1") * count)


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def leave(status: int) -> None:
    sys.exit(status)


class OddError(Exception):
    """Cannot be rebuilt from its args."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def raise_odd() -> None:
    raise OddError(1, 2)


def raise_key() -> None:
    raise KeyError("missing", 3)


def unpicklable() -> object:
    return lambda: None


@pytest.fixture(scope="module")
def worker():
    with Worker() as running:
        yield running


def test_result_and_cost_come_back(worker):
    result, took = worker.call(add, 2, second=3)
    assert result == 5
    assert 0 <= took.wall_s < 60
    assert took.peak_bytes > 1_000_000


def test_arrays_cross_both_ways_and_are_writable(worker):
    values = np.arange(200_000, dtype=np.float32)
    result, _ = worker.call(negate, values)
    np.testing.assert_array_equal(result, -np.arange(200_000, dtype=np.float32))
    assert values[1] == 1  # the parent's array is its own
    result[0] = 7


def test_sleep_costs_wall_time_but_no_cpu_time(worker):
    _, took = worker.call(sleep, 0.2)
    assert took.wall_s >= 0.2
    assert took.cpu_s < 0.1


def test_work_costs_cpu_time(worker):
    _, took = worker.call(spin, 0.2)
    assert took.cpu_s >= 0.2
    assert took.wall_s >= 0.19


def test_peak_is_that_of_the_call_not_of_the_process(worker):
    _, large = worker.call(use_memory, 64 << 20)
    _, small = worker.call(add, 1)
    assert large.peak_bytes - small.peak_bytes > 48 << 20


def test_thread_pools_are_pinned(worker):
    settings, _ = worker.call(thread_settings)
    assert settings["OMP_NUM_THREADS"] == "1"
    assert set(settings.values()) == {"1"}


def test_an_exception_comes_back_as_itself_with_the_remote_traceback(worker):
    with pytest.raises(KeyError) as caught:
        worker.call(raise_key)
    assert caught.value.args == ("missing", 3)
    assert "raise_key" in "".join(caught.value.__notes__)
    assert worker.call(add, 1)[0] == 1


def test_an_exception_that_cannot_be_rebuilt_is_named(worker):
    with pytest.raises(WorkerCallError, match="raise_odd raised OddError: 1 and 2"):
        worker.call(raise_odd)


def test_a_result_that_cannot_travel_is_an_error_not_a_hang(worker):
    with pytest.raises((WorkerCallError, AttributeError, TypeError)):
        worker.call(unpicklable)
    assert worker.call(add, 1)[0] == 1


def test_functions_that_a_child_cannot_find_are_refused(worker):
    def nested() -> None: ...

    for function in (nested, lambda: None):
        with pytest.raises(NotImportableError, match="top level of an importable module"):
            worker.call(function)


@pytest.mark.parametrize(
    ("function", "argument", "status", "text"),
    [(die, signal.SIGKILL, -9, "signal 9"), (leave, 3, 3, "exit status 3")],
)
def test_death_is_reported_and_the_next_call_gets_a_new_child(function, argument, status, text):
    with Worker() as running:
        with pytest.raises(WorkerDiedError, match=rf"worker died \({text}\) while compressing") as caught:
            running.call_as("compressing", function, argument)
        assert caught.value.exit == status
        assert not caught.value.out_of_memory
        assert running.call(add, 4)[0] == 4


def test_a_call_that_takes_too_long_is_ended():
    with Worker(timeout_s=0.5) as running:
        pid = running.pid
        with pytest.raises(WorkerTimeoutError, match=r"no answer within 0.5 s while sleep"):
            running.call(sleep, 60)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_leaving_ends_the_child():
    with Worker() as running:
        pid = running.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
