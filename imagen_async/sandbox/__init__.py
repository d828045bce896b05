"""The embedded gateway: first runs without a key, tests without a network, faults on demand.

It speaks the gateway's contract from its documentation alone and shares none of the client's view of the wire, so
that the two can disagree and a test can notice. It needs the extra ``sandbox`` (Pillow), once it starts.
"""

from imagen_async.sandbox.faults import FAULTS, WRAPPINGS, Fault
from imagen_async.sandbox.gateway import SandboxGateway
from imagen_async.sandbox.ledger import Ledger, LedgerEntry, read_ledger
from imagen_async.sandbox.settings import SANDBOX_KEY, SandboxKeywords, SandboxOptions
from imagen_async.sandbox.stamps import read_stamp
from imagen_async.sandbox.threaded import running_sandbox

__all__ = [
    "FAULTS",
    "SANDBOX_KEY",
    "WRAPPINGS",
    "Fault",
    "Ledger",
    "LedgerEntry",
    "SandboxGateway",
    "SandboxKeywords",
    "SandboxOptions",
    "read_ledger",
    "read_stamp",
    "running_sandbox",
]
