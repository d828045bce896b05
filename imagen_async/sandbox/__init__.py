"""The embedded gateway: first runs without a key, tests without a network, faults on demand.

It implements the gateway's contract from its documentation alone and shares none of the client's code for the wire, so
that the two can disagree and a test can notice. A gateway that is started needs the extra ``sandbox`` (Pillow).

What needs a server is imported when it is first used: the command line's help needs the options only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from imagen_async.sandbox.faults import FAULTS, WRAPPINGS, Fault
from imagen_async.sandbox.ledger import Ledger, LedgerEntry, read_ledger
from imagen_async.sandbox.settings import SANDBOX_KEY, SandboxOptions
from imagen_async.sandbox.stamps import read_stamp

if TYPE_CHECKING:
    from imagen_async.sandbox.gateway import SandboxGateway
    from imagen_async.sandbox.threaded import running_sandbox

__all__ = [
    "FAULTS",
    "SANDBOX_KEY",
    "WRAPPINGS",
    "Fault",
    "Ledger",
    "LedgerEntry",
    "SandboxGateway",
    "SandboxOptions",
    "read_ledger",
    "read_stamp",
    "running_sandbox",
]

_HOMES = {"SandboxGateway": "gateway", "running_sandbox": "threaded"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
