"""``imagen-async sandbox``: serves the embedded gateway to any client, until Ctrl-C.

The command line's parser reads the annotations at run time.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from imagen_async.cli.console import write_message, write_result
from imagen_async.cli.exit_codes import Exit
from imagen_async.cli.formatting import count
from imagen_async.cli.sandbox_options import with_sandbox_options
from imagen_async.cli.signals import listening
from imagen_async.exceptions import printable

if TYPE_CHECKING:
    from imagen_async.sandbox import Ledger, LedgerEntry, SandboxGateway

__all__ = ["sandbox"]


@with_sandbox_options(embedded=False)
def sandbox(*, quiet: bool = False, list_faults: bool = False, behaviour: dict[str, Any]) -> int:
    """Run a gateway on this machine that implements the contract and shows faults on demand.

    Args:
        quiet: Print no line for each request.
        list_faults: Print the kinds of faults, and exit.
        behaviour: Keywords of the gateway.
    """
    from imagen_async.sandbox import FAULTS, SandboxGateway

    if list_faults:
        width = max(map(len, FAULTS))
        write_result("\n".join(f"{fault.name.ljust(width)}  {fault.about}" for fault in FAULTS.values()))
        return Exit.SUCCEEDED
    return asyncio.run(_serve(SandboxGateway(on_request=None if quiet else _print_request, **behaviour)))


async def _serve(gateway: "SandboxGateway") -> int:
    ended = asyncio.Event()
    with listening(lambda _: ended.set()):
        async with gateway:
            write_result(_welcome(gateway.base_url, gateway.api_key))
            await ended.wait()
    write_message(_totals(gateway.ledger))
    return Exit.SUCCEEDED


def _welcome(base_url: str, api_key: str) -> str:
    return f"""\
Sandbox gateway: {base_url}
Key: {api_key}

export IMAGEN_BASE_URL={base_url}
export IMAGEN_API_KEY={api_key}

curl -s {base_url}/images/generations \\
  -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \\
  -d '{{"model": "imagen-3.0-generate-001", "prompt": "A red fox"}}' | head -c 300

Ctrl-C ends it."""


def _print_request(entry: "LedgerEntry") -> None:
    status = "–" if entry.status is None else str(entry.status)
    fault = "" if entry.fault is None else f"  fault {entry.fault}"
    what = "" if entry.prompt is None else f"  n={entry.n}  {printable(repr(entry.prompt), 80)}"
    write_message(f"{entry.ordinal:>6}  {status}  billed {entry.billed}  sent {entry.sent}{fault}{what}")


def _totals(ledger: "Ledger") -> str:
    statuses = ", ".join(
        f"{times:,} × {'no status' if status is None else status}"
        for status, times in sorted(ledger.statuses.items(), key=lambda item: item[0] or 0)
        if times
    )
    return (
        f"{count(ledger.requests, 'request')} ({statuses or 'none'}); "
        f"{count(ledger.billed_images, 'image')} billed, {ledger.sent_images:,} sent"
    )
