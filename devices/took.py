"""What one piece of work cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Took:
    """Cost of one call, measured inside the process that did the work and around the call only.

    Imports, unpickling of the arguments and pickling of the result are outside the measurement.

    Attributes:
        wall_s: elapsed seconds (``time.perf_counter``); under a CPU quota this includes the stalls.
        cpu_s: seconds of CPU of the whole process, user and system, all threads (``time.process_time``).
        peak_bytes: largest resident set of the process during the call, libraries and arguments included.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
