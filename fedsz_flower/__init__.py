"""Compressed updates in any Flower app: a mod for its clients and a grid for its server.

client_app = ClientApp(mods=[CompressMod(codec="fedsz-q")])
result = strategy.start(grid=DecompressGrid(grid), initial_arrays=arrays)
"""

from importlib.util import find_spec

if find_spec("flwr") is None:
    raise ModuleNotFoundError("fedsz_flower needs Flower: pip install 'fedsz-testbed[flower]'", name="flwr")

from fedsz_flower.client import CompressMod
from fedsz_flower.records import COMPRESS_S, DECOMPRESS_S, UPDATE_BYTES, WIRE_BYTES, DifferentTensorsError
from fedsz_flower.server import DecompressGrid

__all__ = [
    "COMPRESS_S",
    "DECOMPRESS_S",
    "UPDATE_BYTES",
    "WIRE_BYTES",
    "CompressMod",
    "DecompressGrid",
    "DifferentTensorsError",
]
