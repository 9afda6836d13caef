"""The command line, struck by a signal at a named moment: ``python product_struck.py WHERE NUMBER HOW ARGUMENTS...``.

WHERE is a function, as ``module:Class.name``, and the blow falls at its call NUMBER (from 1). HOW:

    kill      SIGKILL for this process, while the function is at work
    torn      SIGKILL in the middle of the line that ``testbed.record:_append`` is writing
    int       SIGINT for the whole process group, as a terminal sends it
    term      SIGTERM for this process alone, as a batch system sends it
    stop      SIGSTOP for this process, which goes on with the call at SIGCONT
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from importlib import import_module
from typing import Any

DELAY_S = 0.03
SIGNALS = {"term": signal.SIGTERM, "stop": signal.SIGSTOP, "kill": signal.SIGKILL}


def strike(how: str) -> None:
    if how == "int":
        os.killpg(0, signal.SIGINT)
    else:
        os.kill(os.getpid(), SIGNALS[how])


def arm(where: str, number: int, how: str) -> None:
    module, _, path = where.partition(":")
    owner: Any = import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    plain = getattr(owner, name)
    calls = 0

    @functools.wraps(plain)
    def struck(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != number:
            return plain(*arguments, **options)
        print(f"struck: {where}", flush=True)
        if how == "torn":
            os.write(arguments[0], b'{"schema":1,"run":')
            strike("kill")
        if how == "kill":
            threading.Timer(DELAY_S, strike, (how,)).start()
            result = plain(*arguments, **options)
            time.sleep(60)  # what was quicker than the blow waits for it here
            return result
        strike(how)
        if how == "stop":
            return plain(*arguments, **options)
        time.sleep(60)
        return None

    setattr(owner, name, struck)


def main() -> int:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # what a shell starts in the background ignores it
    os.setpgid(0, 0)  # a terminal's foreground group: all of this run and nobody else
    where, number, how, *arguments = sys.argv[1:]
    arm(where, int(number), how)
    from testbed.cli import main as testbed

    return testbed(arguments)


if __name__ == "__main__":
    sys.exit(main())
