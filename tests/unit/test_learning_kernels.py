"""The real work that calibration times."""

from devices.calibrate import builtin_kernels
from testbed.learning.kernels import real_kernels


def test_real_kernels_are_repeatable_and_cover_every_factor():
    kernels = real_kernels()
    assert {kernel.work for kernel in kernels} == {"train", "compress", "lossless"}
    assert all(kernel.reference_s > 0 for kernel in (*kernels, *builtin_kernels()))
    for kernel in kernels:
        assert kernel.function(*kernel.args) == kernel.function(*kernel.args)
