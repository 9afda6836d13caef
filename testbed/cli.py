"""The command line: arguments and exit status, no logic.

Exit status: 0 done, 1 the run failed, 2 bad scenario or arguments, 3 this machine cannot. A folder that holds no run
where one is to be read, and a file or folder that exists where one is to be written, are bad arguments.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from testbed.errors import NewerSchemaError, NoRunError, ResultsExistError, ScenarioErrors, TestbedError

DONE, FAILED, BAD_INPUT, CANNOT = 0, 1, 2, 3
_BAD_ARGUMENTS = (NoRunError, NewerSchemaError, ResultsExistError)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="testbed",
        description="At which bandwidth does compressing federated-learning updates stop paying?",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def scenario_command(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("scenario", type=Path, nargs="?" if name == "sweep" else None, help="YAML file")
        command.add_argument("--out", type=Path, help="result folder (default: results/NAME-TIME)")
        command.add_argument("--engine", choices=("mininet", "model"), help="instead of the scenario's")
        command.add_argument(
            "--fallback", action="store_true", help="use modelled links where emulated ones cannot be had"
        )
        command.add_argument("--quiet", action="store_true", help="no progress")
        command.add_argument("--json", action="store_true", help="progress and answer as JSON lines")
        return command

    sweep = scenario_command("sweep", "run every cell of a scenario's sweep and find the crossover bandwidth")
    sweep.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with an interrupted sweep")
    sweep.add_argument(
        "--dry-run",
        action="store_true",
        help="print cells, estimated wall time, memory and disk; start nothing",
    )
    run = scenario_command("run", "run a scenario once, as it stands, without its sweep")
    for command in (sweep, run):
        command.add_argument(
            "--replay",
            type=Path,
            metavar="FOLDER",
            help="take all work from an earlier run and play it over this network; nothing is trained",
        )
        command.add_argument(
            "--keep-payloads",
            action="store_true",
            help="keep every payload in the result folder, so that it can be replayed over real links",
        )
    validate = scenario_command(
        "validate", "hold modelled against emulated transfers on a scenario; 1 where they disagree"
    )
    validate.add_argument(
        "--dilation",
        action="store_true",
        help="hold dilated against undilated transfers instead: the same bytes once at k = 1, in real time",
    )
    listing = commands.add_parser("scenarios", help="the scenarios in a folder, a line each")
    listing.add_argument("folder", type=Path, nargs="?", default=Path("scenarios"))
    show = commands.add_parser("show", help="print a scenario with every default filled in")
    show.add_argument("scenario", type=Path)
    report = commands.add_parser(
        "report", help="table, crossover, plots and report of a result folder, made again"
    )
    report.add_argument("results", type=Path)
    report.add_argument(
        "--doubt",
        action=argparse.BooleanOptionalAction,
        help="carry the doubt of the devices' factors into the intervals (default: as the scenario says)",
    )
    export = commands.add_parser("export", help="the rows of a result folder as one table: CSV or Parquet")
    export.add_argument("results", type=Path)
    export.add_argument("--format", choices=("csv", "parquet"), default="csv")
    export.add_argument(
        "--out", type=Path, help="file to write (default: rounds.FORMAT in the result folder)"
    )
    compare = commands.add_parser(
        "compare", help="what differs between two runs, round by round, with intervals"
    )
    compare.add_argument("first", type=Path)
    compare.add_argument("second", type=Path)
    compare.add_argument("--json", action="store_true", help="one JSON object")
    bench = commands.add_parser(
        "bench", help="codecs side by side on trained states: ratio, speed, error, B*"
    )
    bench.add_argument(
        "states",
        nargs="*",
        default=["mobilenet_v2"],
        help="alexnet, mobilenet_v2, resnet50 (resnet50@3: after three rounds), or a .pt or .safetensors",
    )
    bench.add_argument(
        "--codecs", type=lambda text: tuple(text.split(",")), help="ids, with commas (default: all)"
    )
    bench.add_argument(
        "--bounds",
        type=_numbers,
        help="relative bounds, with commas (default: 1e-1 to 1e-5)",
    )
    bench.add_argument("--repeats", type=_count, default=7, help="timings of each (default: 7)")
    bench.add_argument(
        "--part",
        choices=("whole", "lossy"),
        default="whole",
        help="the whole update, or only the tensors that go lossy (default: whole)",
    )
    bench.add_argument(
        "--reference", metavar="STATE", help="a state that both sides hold, for codecs that can use it"
    )
    bench.add_argument(
        "--out", type=Path, default=Path("results/bench"), help="folder for the table and the plot"
    )
    paper = commands.add_parser(
        "paper", help="one experiment of the FedSZ paper: its table, picture and verdict"
    )
    paper.add_argument(
        "experiment", help="ratio, accuracy, lossless, cost, communication, scaling, errors, or a YAML file"
    )
    paper.add_argument("--full", action="store_true", help="the paper's models, data and rounds")
    paper.add_argument("--out", type=Path, help="result folder (default: results/paper/NAME)")
    paper.add_argument("--data-dir", type=Path, help="where data sets lie (default: as for scenarios)")
    calibrate = commands.add_parser(
        "calibrate", help="measure this machine with real work and write its device profile"
    )
    calibrate.add_argument(
        "--out", type=Path, default=Path("my-device.yaml"), help="file to write (default: my-device.yaml)"
    )
    calibrate.add_argument("--name", help="the device's name (default: the file's)")
    calibrate.add_argument("--quick", action="store_true", help="3 turns instead of 9")
    calibrate.add_argument(
        "--cpu-time",
        action="store_true",
        help="count CPU seconds of all that runs on one thread: for a machine that is not alone",
    )
    calibrate.add_argument("--idle-w", type=float, help="watts at rest, from a power meter")
    calibrate.add_argument("--busy-w", type=float, help="watts with all cores busy, from a power meter")
    init = commands.add_parser("init", help="write a commented scenario to start from")
    init.add_argument("file", type=Path, nargs="?", default=Path("scenario.yaml"))
    commands.add_parser("schema", help="print the JSON Schema of scenarios, for editors")
    completion = commands.add_parser("completion", help="print a shell's completion of these commands")
    completion.add_argument("shell", choices=("bash", "zsh"))
    check = commands.add_parser(
        "check", help="what this machine can and cannot do, the fix for each, and how true its links are"
    )
    check.add_argument(
        "--quick", action="store_true", help="do not measure links, which takes about 15 seconds"
    )
    commands.add_parser("clean", help="remove what dead runs left behind: namespaces, links, control groups")
    return parser


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; numbers with commas, for example 1e-2,1e-3"
        ) from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; a whole number from 1 on")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            # A name in a scenario may hold what the terminal's encoding lacks: no reason to end.
            stream.reconfigure(errors="backslashreplace")
    try:
        return _main(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "testbed", "devices", "netem", "fedsz"):
            raise
        # The codec's wheel holds this package too, but not what it needs.
        print(f"testbed: needs the package {package}: pip install 'fedsz-testbed[testbed]'", file=sys.stderr)
        return CANNOT


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    with _stoppable():
        try:
            return _run(options)
        except KeyboardInterrupt as stopped:
            print(f"\n{stopped or 'stopped'}", file=sys.stderr)
            return FAILED


def _run(options: argparse.Namespace) -> int:
    # Loading PyTorch and Numba takes seconds: only what a command needs is loaded.
    from testbed import commands

    try:
        return int(getattr(commands, options.command)(options))
    except ScenarioErrors as errors:
        print(errors, file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # `testbed show X | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (TestbedError, *commands.EXPECTED) as error:
        print(f"testbed: {_in_words(error)}", file=sys.stderr)
        if isinstance(error, _BAD_ARGUMENTS):
            return BAD_INPUT
        return CANNOT if isinstance(error, commands.MACHINE_CANNOT) else FAILED


@contextmanager
def _stoppable() -> Iterator[None]:
    """A batch system's SIGTERM and a lost terminal's SIGHUP end a command as Ctrl-C does: in order."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may decide about signals
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has SIGHUP ignored, and means it
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_words(error: Exception) -> str:
    """``out/rounds.jsonl: No space left on device`` instead of Python's form with a number and quotes."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
