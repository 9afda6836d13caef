"""What a client's device can do: profiles, limits that the kernel enforces, measured work.

Importing this package needs the standard library only.
"""

from devices.catalogue import catalogue, profile
from devices.errors import DeviceError, LimitError, UnknownDeviceError, WorkerDiedError
from devices.limits import ControlGroup, Limits
from devices.profile import DeviceProfile
from devices.took import Took
from devices.worker import Worker

__all__ = [
    "ControlGroup",
    "DeviceError",
    "DeviceProfile",
    "LimitError",
    "Limits",
    "Took",
    "UnknownDeviceError",
    "Worker",
    "WorkerDiedError",
    "catalogue",
    "profile",
]
