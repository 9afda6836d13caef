"""Links: what they are asked to be, the emulated and the modelled network, and how far either may be believed."""

from netem.errors import (
    CapabilityError,
    CommandError,
    LedgerError,
    LinkSpecError,
    NetemError,
    ShapingError,
    TransferError,
    UnitError,
)
from netem.flow import Direction, FlowRequest, FlowResult, FlowStatus
from netem.link import AccessLink, LinkSpec, Topology
from netem.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_fraction,
    parse_rate,
    parse_size,
)

__all__ = [
    "AccessLink",
    "CapabilityError",
    "CommandError",
    "Direction",
    "FlowRequest",
    "FlowResult",
    "FlowStatus",
    "LedgerError",
    "LinkSpec",
    "LinkSpecError",
    "NetemError",
    "ShapingError",
    "Topology",
    "TransferError",
    "UnitError",
    "format_duration",
    "format_rate",
    "format_size",
    "parse_duration",
    "parse_fraction",
    "parse_rate",
    "parse_size",
]
