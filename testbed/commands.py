"""What each command of the command line does; `testbed.cli` turns errors into exit statuses."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from devices.errors import DeviceError, LimitError
from fedsz.errors import FedSZError
from netem.errors import CapabilityError, NetemError
from netem.ledger import sweep as sweep_ledgers
from testbed import dilation_check, fidelity
from testbed import sweep as sweeps
from testbed.errors import ScenarioErrors, ScenarioProblem
from testbed.learning.errors import LearningError
from testbed.progress import Mode
from testbed.record import CELLS, MANIFEST, read_results
from testbed.scenario import Engine, Scenario, Sweep, load
from testbed.scenario_include import is_part
from testbed.scenario_schema import SCENARIO
from testbed.schema_record import broken_rules
from testbed.summary import summarise
from testbed.tables import console

# Errors that say what is wrong in words for the user; everything else is a defect and shows its traceback.
EXPECTED = (NetemError, DeviceError, FedSZError, LearningError, OSError)
MACHINE_CANNOT = (CapabilityError, LimitError)


def sweep(options: argparse.Namespace) -> int:
    """`testbed sweep`."""
    if options.resume is not None and options.scenario is not None:
        print(
            "testbed sweep: --resume goes on with the folder's own scenario; name no other", file=sys.stderr
        )
        return 2
    if options.resume is not None:
        _measure(options.resume, lambda: sweeps.resume(options.resume, mode=_mode(options)))
        return _answer(options.resume, options)
    if options.scenario is None:
        print("testbed sweep: name a scenario, or a folder with --resume", file=sys.stderr)
        return 2
    if options.dry_run:
        return _forecast(_load(options), options)
    return _start(_load(options), options)


def _forecast(scenario: Scenario, options: argparse.Namespace) -> int:
    from testbed.forecast import forecast

    found = forecast(scenario, keep_payloads=options.keep_payloads)
    for cell in () if options.quiet else found.cells:
        print(f"cell {cell.index}: repeat {cell.repeat}, {cell.label or 'the scenario as it stands'}")
    for line in found.lines:
        print(line)
    return 0


def run(options: argparse.Namespace) -> int:
    """`testbed run`."""
    return _start(replace(_load(options), sweep=Sweep()), options)


def validate(options: argparse.Namespace) -> int:
    """`testbed validate`: one repeat of every variant; the modelled beside the emulated transfer of each flow."""
    scenario = _on(_read(options.scenario), "mininet")
    scenario = replace(scenario, sweep=replace(scenario.sweep, repeats=1, work="drawn"))
    sweeps.require(scenario)
    if options.dilation:
        return _validate_dilation(scenario, options)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch) / "validate"
        sweeps.start(scenario, folder, mode=_mode(options))
        results = read_results(folder)
        fidelity.write(folder, results)
        checks = fidelity.from_cells(results.cells)
    good, text = fidelity.verdict(checks)
    out = console()
    out.print(fidelity.table(checks))
    out.print(text, highlight=False)
    return 0 if good else 1


def _validate_dilation(scenario: Scenario, options: argparse.Namespace) -> int:
    """Both runs carry the same bytes after the same work: the second replays the first with links at k = 1."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        dilated, plain = folder / "dilated", folder / "undilated"
        sweeps.start(scenario, dilated, mode=_mode(options), keep_payloads=True)
        undilated = replace(scenario, network=replace(scenario.network, dilation=1.0))
        sweeps.start(undilated, plain, mode=_mode(options), replay=dilated)
        found = dilation_check.points(read_results(dilated).rows, read_results(plain).rows)
    good, text = dilation_check.verdict(found)
    out = console()
    out.print(dilation_check.table(found))
    out.print(text, highlight=False)
    return 0 if good else 1


def scenarios(options: argparse.Namespace) -> int:
    """`testbed scenarios`."""
    from testbed.paper.settings import is_paper

    folder = options.folder
    files = sorted(folder.rglob("*.yaml")) if folder.is_dir() else []
    parts = [file for file in files if is_part(file) and not is_paper(file)]
    for file in files:
        if file not in parts:
            print(f"{file}: {_described(file)}")
    if parts:
        print(f"parts for scenarios to include: {', '.join(str(file) for file in parts)}")
    if not files:
        print(f"testbed: no scenario in {folder}", file=sys.stderr)
    return 0 if files else 2


def show(options: argparse.Namespace) -> int:
    """`testbed show`."""
    print(_read(options.scenario).to_yaml(), end="")
    return 0


def report(options: argparse.Namespace) -> int:
    """`testbed report`."""
    summarise(options.results, doubt=options.doubt)
    return 0


def export(options: argparse.Namespace) -> int:
    """`testbed export`."""
    from testbed.results import export as write

    print(f"wrote {write(options.results, options.format, options.out)}")
    return 0


def compare(options: argparse.Namespace) -> int:
    """`testbed compare`."""
    from testbed.compare import compare as compared
    from testbed.compare import table
    from testbed.results import load as load_run

    found = compared(load_run(options.first), load_run(options.second))
    if options.json:
        print(json.dumps(found.to_dict()))
    elif found.groups:
        console().print(table(found))
    if not found.groups:
        print("testbed compare: the two runs have no usable round in common", file=sys.stderr)
    return 0 if found.groups else 1


def bench(options: argparse.Namespace) -> int:
    """`testbed bench`."""
    import fedsz
    from testbed import bench as benches
    from testbed.bench_report import ratio_speed_figure, tables
    from testbed.bench_states import StateSourceError
    from testbed.plot import save

    wanted = benches.BenchOptions(
        states=tuple(options.states),
        repeats=options.repeats,
        reference=options.reference,
        part=options.part,
    )
    if options.codecs:
        wanted = replace(wanted, codecs=options.codecs)
    if options.bounds:
        wanted = replace(wanted, bounds=options.bounds)
    try:
        result = benches.run(wanted, tell=lambda text: print(text, file=sys.stderr))
    except (fedsz.UnknownCodecError, fedsz.InvalidBoundError, StateSourceError) as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    files = [
        benches.write_result(result, options.out),
        *save(ratio_speed_figure(result), options.out, "ratio-speed"),
    ]
    out = console()
    for table in tables(result):
        out.print(table)
    out.print("results: " + ", ".join(str(path) for path in files), highlight=False, soft_wrap=True)
    return 0


def paper(options: argparse.Namespace) -> int:
    """`testbed paper`."""
    from testbed.paper.command import paper as experiment

    return experiment(options)


def calibrate(options: argparse.Namespace) -> int:
    """`testbed calibrate`."""
    from testbed.calibration import calibrate as measured

    return measured(options)


def init(options: argparse.Namespace) -> int:
    """`testbed init`."""
    from testbed.init import write_template

    write_template(options.file)
    name = shlex.quote(str(options.file))
    print(f"wrote {name}; next: testbed show {name}, then testbed sweep {name} --fallback")
    return 0


def schema(options: argparse.Namespace) -> int:
    """`testbed schema`."""
    del options
    from testbed.scenario_json_schema import schema_text

    print(schema_text(), end="")
    return 0


def completion(options: argparse.Namespace) -> int:
    """`testbed completion`."""
    from testbed.completion import script

    print(script(options.shell))
    return 0


def check(options: argparse.Namespace) -> int:
    """`testbed check`."""
    from testbed.check import check as look

    return int(look(quick=options.quick))


def clean(options: argparse.Namespace) -> int:
    """`testbed clean`."""
    del options
    removed = sweep_ledgers(sweeps.state_dir())
    for thing in removed:
        print(f"removed {thing}")
    if not removed:
        print("nothing to remove: no dead run left anything behind")
    return 0


def _described(file: Path) -> str:
    """A scenario's description in one line; that of an experiment of the paper as well."""
    from testbed.paper.settings import is_paper
    from testbed.paper.settings import load as load_paper

    if is_paper(file):
        return " ".join(load_paper(file).description.split())
    scenario = _read(file)
    return " ".join(scenario.description.split()) or scenario.name


def _read(path: Path) -> Scenario:
    try:
        return load(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScenarioErrors(
            str(path), [ScenarioProblem(str(path), 1, 1, "", f"cannot be read: {reason}")]
        ) from None


def _on(scenario: Scenario, engine: Engine) -> Scenario:
    """*scenario* on another engine than its file says; ScenarioErrors where it makes no sense there."""
    moved = scenario.with_engine(engine)
    file = scenario.source or scenario.name
    broken = dict.fromkeys(rule for cell in moved.cells() for rule in broken_rules(SCENARIO, cell.scenario))
    if broken:
        raise ScenarioErrors(file, [ScenarioProblem(file, 1, 1, path, message) for path, message in broken])
    return moved


def _load(options: argparse.Namespace) -> Scenario:
    scenario = _read(options.scenario)
    if options.engine:
        scenario = _on(scenario, options.engine)
    try:
        sweeps.require(scenario)
    except CapabilityError as error:
        if not options.fallback:
            raise
        print(
            f"MODELLED network: {error}. Transfer times are computed, everything else is measured.",
            file=sys.stderr,
        )
        scenario = scenario.with_engine("model")
    return scenario


def _start(scenario: Scenario, options: argparse.Namespace) -> int:
    folder = options.out or sweeps.default_folder(scenario)
    _measure(
        folder,
        lambda: sweeps.start(
            scenario,
            folder,
            mode=_mode(options),
            replay=options.replay,
            keep_payloads=options.keep_payloads,
        ),
    )
    return _answer(folder, options)


def _measure(folder: Path, work: object) -> None:
    assert callable(work)
    try:
        work()
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(f"{_stopped(stopped)}; {_kept(folder)}") from None
    except EXPECTED:
        if (folder / MANIFEST).exists():
            print(f"\n{_to_go_on(folder)}", file=sys.stderr)
        raise


def _answer(folder: Path, options: argparse.Namespace) -> int:
    again = f"every cell is kept in {folder}\nfor the report: testbed report {shlex.quote(str(folder))}"
    try:
        summarise(folder, quiet=options.quiet, json_lines=options.json)
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(f"{_stopped(stopped)}; {again}") from None
    except OSError:
        print(f"\n{again}", file=sys.stderr)
        raise
    return 0


def _stopped(stopped: KeyboardInterrupt) -> str:
    return str(stopped) or "stopped"


def _kept(folder: Path) -> str:
    """What an interrupted sweep leaves, and the command that goes on with it."""
    if not (folder / MANIFEST).exists():
        return "nothing was measured, and nothing is left"
    cells = folder / CELLS
    done = cells.read_bytes().count(b"\n") if cells.exists() else 0
    from testbed.checkpoints import rounds_kept  # loads PyTorch

    rounds = rounds_kept(folder, done)
    begun = f", and {rounds} round{'' if rounds == 1 else 's'} of the next" if rounds else ""
    return f"{done} complete cell{'' if done == 1 else 's'} kept in {folder}{begun}\n{_to_go_on(folder)}"


def _to_go_on(folder: Path) -> str:
    return f"to go on: testbed sweep --resume {shlex.quote(str(folder))}"


def _mode(options: argparse.Namespace) -> Mode:
    return "json" if options.json else "quiet" if options.quiet else "auto"
