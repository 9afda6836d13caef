"""``report.html``: one file that needs no network, answer first, made from the record files of a run alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from netem.units import format_rate, format_size
from testbed.crossover import FILE, Crossover, crossovers, doubt_note, rate_text, read_crossovers
from testbed.device_record import doubt_of
from testbed.files import write_derived
from testbed.learnt import learnt
from testbed.markup import PAGE, Html, element, picture, safe, table
from testbed.plot import figures
from testbed.record import Results, read_results
from testbed.report_devices import devices, energy
from testbed.report_learnt import ANCHOR, learning
from testbed.row import PARTS, Row
from testbed.scenario_yaml import to_yaml
from testbed.setting import setting_text
from testbed.split import codec_name, summarise
from testbed.tables import estimate_text, nothing_to_compare, seconds_text, share_text

REPORT = "report.html"
FIDELITY = "fidelity.json"
# An answer from which more than this share of its pairs had to be left out is marked.
DOUBTFUL_SHARE = 0.25

_NUMBER = re.compile(r"\d+(?:\.\d+)?")

# Title, caption and spoken label of each picture, in the order of the page.
_PICTURES = {
    "round-time": (
        "Round time over bandwidth",
        (
            "Medians and quartiles over clients, rounds and repeats; dotted lines mark crossovers, the bands around "
            "them their 95 % intervals. Below: only the parts that a codec can change."
        ),
    ),
    "by-setting": (
        "Round time by setting",
        (
            "Medians, and bars from quartile to quartile, over clients, rounds and repeats; each fleet ran at one "
            "rate. Right: only the parts that a codec can change."
        ),
    ),
    "round-split": (
        "Where the time goes",
        (
            "Means, which add up to the round; a few of the swept rates, each on a scale of its own. A client's "
            "waiting is time that others took."
        ),
    ),
    "ratio-speed": (
        "Ratio against speed",
        "On the device; the whole payload counts, header and checksum included.",
    ),
    "timeline": (
        "One round, client by client",
        "The first round at a middle rate of the sweep. Waiting whose moments were not noted is drawn last.",
    ),
    "accuracy": ("Accuracy over emulated time", "Of the global model, after each round of the first repeat."),
}


def write_report(folder: str | Path) -> Path:
    """Make ``report.html`` in a result folder; an older one is replaced.

    Raises: as `read_results`.
    """
    folder = Path(folder)
    results = read_results(folder)
    found = (
        read_crossovers(folder)
        if (folder / FILE).exists()
        else crossovers(results.rows, doubt_of(results.manifest))
    )
    fidelity = folder / FIDELITY
    extra = json.loads(fidelity.read_text(encoding="utf-8")) if fidelity.exists() else None
    path = folder / REPORT
    write_derived(path, page(results, found, extra))
    return path


def page(results: Results, found: Sequence[Crossover], fidelity: Any = None) -> str:
    """The whole document."""
    manifest, rows = results.manifest, results.rows
    name = str(manifest.get("name", "run"))
    title = f"{name}: where compressing updates stops paying"
    body = [
        element("h1", title),
        element("p", _subtitle(manifest, rows), class_="quiet"),
        element("p", _scenario(manifest).get("description") or ""),
        *_answer(found, rows),
        _trust(results),
        *_pictures(rows, found),
        *_tables(rows, found),
        *learning(rows),
        *energy(rows),
        *devices(manifest, carried=bool(doubt_note(found))),
        *_left_out(rows),
        *_fidelity(fidelity),
        *_details(manifest),
        element("footer", "Made from ", element("code", "run.json"), ", ", element("code", "rounds.jsonl"), " and ",
                element("code", "cells.jsonl"), "; `testbed report` makes it again."),
    ]  # fmt: skip
    style = resources.files("testbed").joinpath("report.css").read_text(encoding="utf-8")
    head = "".join(
        [
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            element("title", title),
            element("style", Html(style)),
        ]
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{_joined(body)}\n</body>\n</html>\n'
    )


def _joined(parts: Sequence[Html]) -> str:
    return "\n".join(part for part in parts if part)


def _scenario(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    scenario = manifest.get("scenario")
    return scenario if isinstance(scenario, Mapping) else {}


def _subtitle(manifest: Mapping[str, Any], rows: Sequence[Row]) -> str:
    engines = sorted({row.engine for row in rows})
    links = {"mininet": "emulated links (Mininet)", "model": "modelled links"}
    parts = [
        str(manifest.get("started", "")),
        ", ".join(links.get(engine, engine) for engine in engines),
        f"{len({row.client for row in rows})} clients",
        f"{len(rows)} client-rounds",
    ]
    return " · ".join(part for part in parts if part)


def _answer(found: Sequence[Crossover], rows: Sequence[Row]) -> list[Html]:
    if not found:
        return [element("p", nothing_to_compare(rows))]
    if not any(item.pairs for item in found):
        return [element("p", _no_pairs(found))]
    cards = []
    for name in dict.fromkeys((item.fleet, item.device) for item in found):
        lines = []
        for item in found:
            if (item.fleet, item.device) == name:
                lines += [element("dt", *_what(item)), element("dd", *_verdict(item))]
        cards.append(
            element("div", element("h2", f"{name[0]} ({name[1]})"), element("dl", *lines), class_="answer")
        )
    notes = list(
        dict.fromkeys(
            item.measured.note for item in found if item.measured.note and item.measured.has_interval
        )
    )
    notes += [note] if (note := doubt_note(found)) else []
    if all(item.at_one_rate for item in found):
        intro = [
            "Each fleet ran at one rate: so much sooner or later than raw is an update there when it is compressed."
        ]
    else:
        intro = [
            "An update sent compressed arrives sooner than raw as long as the uplink is slower than this."
        ]
    if any(item.measured.has_interval for item in found):
        intro.append("In brackets the 95 % interval" + (f"; {'; '.join(notes)}." if notes else "."))
    return [element("p", " ".join(intro)), element("div", *cards, class_="answers")]


def _no_pairs(found: Sequence[Crossover]) -> str:
    """Why no codec has an answer, each reason once."""
    fleets: dict[str, list[str]] = {}
    for item in found:
        fleets.setdefault(item.measured.note, []).append(item.fleet)
    if len(fleets) == 1:
        return f"No answer: {found[0].measured.note}."
    reasons = (f"{', '.join(dict.fromkeys(names))}: {note}" for note, names in fleets.items())
    return f"No answer. {'; '.join(reasons)}."


def _what(item: Crossover) -> list[Html]:
    """The codec, and below it what else was swept."""
    setting = setting_text(item.setting.items())
    small = [Html("<br>"), element("small", setting)] if setting else []
    return [safe(codec_name(item.codec)), *small]


def _verdict(item: Crossover) -> list[Html]:
    """The figure, its interval, and how much it rests on."""
    left_out = item.untrusted + item.failed + item.alone
    basis = f"{item.pairs} pairs of rounds" + (f", {left_out} left out" if left_out else "")
    doubtful = left_out > DOUBTFUL_SHARE * (left_out + item.pairs)
    return [*_figure(item), Html("<br>"), element("small", basis, class_="doubt" if doubtful else "quiet")]


def _figure(item: Crossover) -> list[Html]:
    rates = [point.rate_bps for point in item.points]
    measured = item.measured
    if measured.where == "within":
        value, _, rest = estimate_text(measured, rates).partition(" [")
        interval = f" [{rest}" if rest else ""
        return [element("b", value), element("span", interval, class_="quiet")]
    if measured.where == "above":
        beyond = item.closed_form_net.value_bps or item.closed_form.value_bps
        note = f" (closed form, net: {rate_text(beyond)})" if beyond else ""
        return [element("b", f"above {format_rate(max(rates), 3)}"), element("span", note, class_="quiet")]
    if measured.where == "below":
        return [element("b", f"below {format_rate(min(rates), 3)}"),
                element("span", " (does not pay in the swept range)", class_="quiet")]  # fmt: skip
    if item.at_one_rate:
        verdict, _, rest = item.at_one_rate.partition(": ")
        return [element("b", verdict), element("span", f": {rest}", class_="quiet")]
    return [element("span", measured.note, class_="quiet")]


def _trust(results: Results) -> Html:
    rows = results.rows
    untrusted = [row for row in rows if not row.trusted]
    unfinished = Counter(row.status for row in rows if row.status != "ok")
    sentences = [f"{len(rows) - len(untrusted)} of {len(rows)} client-rounds are trusted."]
    if not rows:
        sentences = ["Nothing has been measured yet."]
    elif len(untrusted) == len(rows):
        sentences = [f"None of the {len(rows)} client-rounds may be believed, so there is no answer."]
    if untrusted:
        (first, *more) = _reasons(untrusted)
        sentences.append(f"Untrusted and left out: {len(untrusted)} ({_example(first)}).")
    for status, times in unfinished.items():
        sentences.append(f"{times} {status}.")
    if any(row.engine == "model" for row in rows):
        sentences.append("Transfer times are modelled, not measured on links.")
    if any("drawn" in row.source.values() for row in rows):
        sentences.append("Some work times are drawn from one measurement for each kind of device.")
    fading = [one.name for one in learnt(rows) if one.fades]
    wall = sum(cell.transfer_wall_s for cell in results.cells)
    emulated = sum(cell.transfer_emulated_s for cell in results.cells)
    if wall > 0.0:
        sentences.append(
            f"Transfers that take {seconds_text(emulated)} s in the emulated world took {seconds_text(wall)} s here"
            + (f", {emulated / wall:.3g} times less." if emulated > 1.05 * wall else ".")
        )
    notes = {item for row in rows for item in row.source.values()}
    warn = bool(untrusted or unfinished or not rows or fading or "modelled" in notes)
    rest = [" ", element("a", "Why others were left out.", href="#left-out")] if untrusted and more else []
    if fading:
        rest += [
            " ",
            element("a", f"What rounds teach is lost through {', '.join(fading)}.", href=f"#{ANCHOR}"),
        ]
    return element("p", " ".join(sentences), *rest, class_="trust warn" if warn else "trust")


def _reasons(untrusted: Sequence[Row]) -> list[list[str]]:
    """Why rows are not believed, by kind, the most frequent first; reasons that differ only in figures are one kind."""
    kinds: dict[str, list[str]] = {}
    for row in untrusted:
        kinds.setdefault(_NUMBER.sub("#", row.untrusted_because), []).append(row.untrusted_because)
    return sorted(kinds.values(), key=len, reverse=True)


def _example(reasons: Sequence[str]) -> str:
    return ("for example, " if len(set(reasons)) > 1 else "") + reasons[0]


def _left_out(rows: Sequence[Row]) -> list[Html]:
    """All reasons for which rounds are not believed; nothing where the trust line has the only one."""
    kinds = _reasons([row for row in rows if not row.trusted])
    if len(kinds) < 2:
        return []
    lines = [[len(reasons), element("span", _example(reasons), class_="wrap")] for reasons in kinds]
    return [
        element("h2", "Client-rounds that were left out", id="left-out"),
        table(["times", "because"], lines, text_columns=2),
    ]


def _pictures(rows: Sequence[Row], found: Sequence[Crossover]) -> list[Html]:
    parts = []
    for name, figure in figures(rows, found, PAGE).items():
        title, caption = _PICTURES[name]
        parts += [
            element("h2", title),
            picture(figure, f"{title}. {caption}"),
            element("p", caption, class_="quiet"),
        ]
    return parts


def _tables(rows: Sequence[Row], found: Sequence[Crossover]) -> list[Html]:
    parts = []
    if any(item.pairs for item in found):
        parts += [element("h2", "Crossovers"), _crossover_table(found)]
        caption = (
            "Closed form: 8 (S - S') / (t_C + t_D), in payload bits; S, S' are the payloads without and with the "
            "codec. Net: the same less the time that packing the raw payload takes. Intervals: 95 %, bootstrap over "
            "repeats."
        )
        parts.append(element("p", caption, class_="quiet"))
    if rows:
        split = element(
            "details", element("summary", "Every point of the sweep (seconds, means)"), _split_table(rows)
        )
        parts += [element("h2", "The numbers"), split]
    return parts


def _crossover_table(found: Sequence[Crossover]) -> Html:
    settings = any(item.setting for item in found)
    head = ["fleet", *(["setting"] if settings else []), "codec", "ratio", "t_C (s)", "t_D (s)", "measured",
            "closed form", "net", "pairs", "left out"]  # fmt: skip
    body = []
    for item in found:
        rates = [point.rate_bps for point in item.points]
        body.append(
            [
                element("span", f"{item.fleet} ({item.device})", class_="wrap"),
                *([element("span", setting_text(item.setting.items()), class_="wrap")] if settings else []),
                codec_name(item.codec),
                "-" if item.compression_ratio is None else f"{item.compression_ratio:.2f}",
                "-" if item.compress_s is None else seconds_text(item.compress_s),
                "-" if item.decompress_s is None else seconds_text(item.decompress_s),
                _two_lines(item.at_one_rate or estimate_text(item.measured, rates)),
                _two_lines(estimate_text(item.closed_form, [])),
                _two_lines(estimate_text(item.closed_form_net, [])),
                item.pairs,
                item.untrusted + item.failed + item.alone,
            ]
        )
    return table(head, body, text_columns=3 if settings else 2)


def _two_lines(text: str) -> Html:
    """An interval below its value, what a codec is worth below where: the table stays as wide as the page."""
    first, mark, rest = text.partition(": ") if ": " in text else text.partition(" [")
    if not mark:
        return safe(text)
    below = f"[{rest}" if mark == " [" else rest
    return element("span", first, Html("<br>"), element("span", below, class_="quiet"))


def _split_table(rows: Sequence[Row]) -> Html:
    points = summarise(rows)
    settings = any(item.setting for item in points)
    head = [
        "fleet",
        *(["setting"] if settings else []),
        "uplink",
        "codec",
        *PARTS,
        "round",
        "coding",
        "ratio",
        "n",
        "left out",
    ]
    body = [
        [
            item.fleet,
            *([setting_text(item.setting)] if settings else []),
            format_rate(item.rate_bps, 3),
            codec_name(item.codec),
            *(seconds_text(item.mean_s[part]) for part in PARTS),
            seconds_text(item.round_s),
            share_text(item.coding_share),
            "-" if item.compression_ratio is None else f"{item.compression_ratio:.2f}",
            item.used,
            item.untrusted + item.failed,
        ]
        for item in points
    ]
    return table(head, body, text_columns=4 if settings else 3)


# Tables of `fidelity.json`, in the order of the page: key, title, how many columns are text.
_FIDELITY = (
    ("links", "Links, probed before their first round (rates as they ran here, dilation included)", 2),
    ("host", "This host while packets flew, over all rounds", 1),
    ("points", "Every transfer against the same transfer over modelled links", 1),
)
# Longer tables are folded.
_LONG = 16


def _fidelity(fidelity: Any) -> list[Html]:
    """What ``fidelity.json`` says: tables where it holds lists of like records, text otherwise."""
    if fidelity is None:
        return []
    parts = [element("h2", "Fidelity: how true links and clock were in this run")]
    known = fidelity if isinstance(fidelity, Mapping) else {"points": fidelity}
    verdict = known.get("verdict")
    if isinstance(verdict, Mapping):
        parts.append(element("p", verdict.get("summary", ""), class_="quiet"))
    for key, title, text_columns in _FIDELITY:
        rows = known.get(key)
        if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
            head = list(dict.fromkeys(name for row in rows for name in row))
            body = [[_cell(row.get(name, "")) for name in head] for row in rows]
            shown = table(head, body, text_columns=text_columns)
            if len(body) > _LONG:
                parts.append(element("details", element("summary", title), shown))
            else:
                parts += [element("h3", title), shown]
    if len(parts) == 1:
        parts.append(element("pre", json.dumps(fidelity, indent=2, ensure_ascii=False)))
    return parts


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _details(manifest: Mapping[str, Any]) -> list[Html]:
    machine = manifest.get("machine", {})
    versions = manifest.get("versions", {})
    facts = []
    if isinstance(machine, Mapping):
        facts += [(key, machine[key]) for key in ("cpu", "cores", "kernel", "architecture") if key in machine]
        if isinstance(machine.get("memory_bytes"), int):
            facts.append(("memory", format_size(machine["memory_bytes"], 3)))
    source = manifest.get("source", {})
    if isinstance(source, Mapping) and source.get("commit"):
        changed = ", changed since" if source.get("dirty") else ""
        facts.append(("commit", f"{source['commit']}{changed}"))
    facts += [(key, manifest[key]) for key in ("seed", "data") if manifest.get(key) is not None]
    if isinstance(versions, Mapping):
        facts.append(
            ("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version))
        )
    rest = {key: value for key, value in manifest.items() if key != "scenario"}
    lines = [
        element("tr", element("th", key, scope="row"), element("td", value, class_="long"))
        for key, value in facts
    ]
    return [
        element("h2", "What ran, and on what"),
        element("div", element("table", *lines), class_="scroll"),
        _folded("Scenario, filled in", to_yaml(dict(_scenario(manifest)))),
        _folded("Manifest", json.dumps(rest, indent=2, ensure_ascii=False)),
    ]


def _folded(title: str, text: str) -> Html:
    return element("details", element("summary", title), element("pre", text))
