"""`python -m fedsz`, or `fedsz`: files of tensors in and out of payloads. Arguments and exit codes, no logic."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from fedsz import codecs, compress, compression_ratio, decompress, inspect, update_bytes
from fedsz.bound import BoundMode, ErrorBound
from fedsz.errors import CodecUnavailableError, FedSZError
from fedsz.files import READABLE, WRITABLE, load, replacing, save
from fedsz.inspection import Inspection

_SHOWN = ("name", "dtype", "shape", "method", "raw_bytes", "stored_bytes", "ratio")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 where a file cannot be written; 2 where arguments or a file's contents are wrong; 3 where a codec's library
        is missing here. The reason is one line on standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except CodecUnavailableError as error:
        return _failed(error, 3)
    except FedSZError as error:
        return _failed(error, 2)
    except (FileNotFoundError, IsADirectoryError, FileExistsError) as error:
        return _failed(error, 2)
    except OSError as error:
        return _failed(error, 1)
    return 0


def _failed(error: Exception, code: int) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    print(f"fedsz: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fedsz", description="Error-bounded compression of model files.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("compress", help=f"{', '.join(READABLE)} to .fdsz")
    _add_files(command, f"a file of tensors: {', '.join(READABLE)}", "the payload, .fdsz by convention")
    command.add_argument("--codec", default="fedsz-q", help="lossy codec, or none (default: %(default)s)")
    command.add_argument(
        "--bound", type=float, default=1e-2, help="largest error; 0 is lossless (default: %(default)s)"
    )
    command.add_argument(
        "--mode",
        choices=get_args(BoundMode),
        default="REL",
        help="what the bound is relative to (default: %(default)s)",
    )
    command.add_argument("--lossless", default="zstd-planes", help="codec of the rest (default: %(default)s)")
    command.add_argument("--threads", type=int, default=1, help="blocks coded at once (default: %(default)s)")
    command.set_defaults(run=_compress)

    command = commands.add_parser("decompress", help=f".fdsz to {' or '.join(WRITABLE)}")
    _add_files(command, "the payload", f"a file of tensors: {' or '.join(WRITABLE)}")
    command.add_argument(
        "--max-bytes", type=int, default=1 << 36, help="refuse payloads that claim more (default: 64 GiB)"
    )
    command.set_defaults(run=_decompress)

    command = commands.add_parser(
        "inspect", help="what a payload holds, tensor by tensor; nothing is decoded"
    )
    command.add_argument("payload", type=Path)
    command.add_argument("--reference", type=Path, help="the model that it was coded against")
    command.add_argument("--json", action="store_true", help="for scripts")
    command.set_defaults(run=_inspect)

    command = commands.add_parser("codecs", help="what is available here, and why the rest is not")
    command.set_defaults(run=_codecs)
    return parser


def _add_files(command: argparse.ArgumentParser, source: str, target: str) -> None:
    command.add_argument("source", type=Path, help=source)
    command.add_argument("target", type=Path, help=target)
    command.add_argument("--reference", type=Path, help="a model that both sides hold, to code against")
    command.add_argument("--force", action="store_true", help="replace TARGET where it exists")


def _refuse_to_replace(options: argparse.Namespace) -> None:
    if options.target.exists() and not options.force:
        raise FileExistsError(17, "exists already; --force replaces it", str(options.target))


def _compress(options: argparse.Namespace) -> None:
    _refuse_to_replace(options)
    bound = ErrorBound(options.mode, options.bound)
    state = load(options.source)
    reference = None if options.reference is None else load(options.reference)
    payload = compress(
        state,
        bound,
        codec=options.codec,
        lossless=options.lossless,
        reference=reference,
        threads=options.threads,
    )
    with replacing(options.target) as partial:
        partial.write_bytes(payload)
    ratio = compression_ratio(state, payload)
    print(
        f"{options.target}: {len(state)} tensors, {update_bytes(state):,} bytes to {len(payload):,}, ratio {ratio:.2f}"
    )


def _decompress(options: argparse.Namespace) -> None:
    _refuse_to_replace(options)
    payload = options.source.read_bytes()
    reference = None if options.reference is None else load(options.reference)
    # A file may come from a stranger; where there are no worker processes it is decoded here.
    isolate = sys.platform == "linux"
    state = decompress(payload, reference=reference, max_bytes=options.max_bytes, isolate=isolate)
    save(state, options.target)
    print(f"{options.target}: {len(state)} tensors, {update_bytes(state):,} bytes")


def _inspect(options: argparse.Namespace) -> None:
    reference = None if options.reference is None else load(options.reference)
    found = inspect(options.payload.read_bytes(), reference=reference)
    if options.json:
        print(json.dumps(asdict(found)))
        return
    _print_table(found)


def _print_table(found: Inspection) -> None:
    rows = [
        (
            row.name,
            row.dtype,
            "x".join(map(str, row.shape)) or "-",
            row.method + (" given the reference" if row.conditional else ""),
            f"{row.raw_bytes:,}",
            f"{row.stored_bytes:,.0f}",
            f"{row.raw_bytes / row.stored_bytes:.2f}" if row.stored_bytes else "-",
        )
        for row in found.tensors
    ]
    widths = [max(map(len, column)) for column in zip(_SHOWN, *rows, strict=True)]
    for line in (_SHOWN, *rows):
        left = [f"{text:<{width}}" for text, width in zip(line[:4], widths[:4], strict=True)]
        right = [f"{text:>{width}}" for text, width in zip(line[4:], widths[4:], strict=True)]
        print("  ".join(left + right).rstrip())
    ratio = found.raw_bytes / found.payload_bytes
    against = f", against reference {found.reference_digest}" if found.reference_digest else ""
    print(
        f"{found.codec} {found.bound.mode} {found.bound.value:g}, the rest {found.lossless}{against}: "
        f"{found.raw_bytes:,} bytes in {found.payload_bytes:,} ({found.header_bytes:,} of header), ratio {ratio:.2f}"
    )


def _codecs(_: argparse.Namespace) -> None:
    for info in codecs().values():
        missing = f"missing: {info.why}; {info.install}"
        print(f"{info.codec_id:<16}{info.kind:<10}{'ok' if info.available else missing}")


if __name__ == "__main__":
    sys.exit(main())
