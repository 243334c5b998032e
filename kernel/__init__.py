"""The microkernel: it carries messages between services and reads none of them."""

from .call import Call
from .config import Config, KernelConfig
from .errors import (
    BootError,
    ConfigError,
    KernelError,
    KernelFailed,
    KernelStopped,
    NotNow,
    Refused,
    StartTimeout,
    SwapFailed,
    Unavailable,
    Unroutable,
    WouldDeadlock,
)
from .kernel import Kernel
from .message import Event, Message, Meter, Request, Sink, Value
from .service import Proceed, Service, handles, subscribes

__all__ = [
    "BootError",
    "Call",
    "Config",
    "ConfigError",
    "Event",
    "Kernel",
    "KernelConfig",
    "KernelError",
    "KernelFailed",
    "KernelStopped",
    "Message",
    "Meter",
    "NotNow",
    "Proceed",
    "Refused",
    "Request",
    "Service",
    "Sink",
    "StartTimeout",
    "SwapFailed",
    "Unavailable",
    "Unroutable",
    "Value",
    "WouldDeadlock",
    "handles",
    "subscribes",
]
