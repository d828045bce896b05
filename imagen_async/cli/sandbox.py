"""``imagen-async sandbox``: the embedded gateway for anyone's client, until Ctrl-C.

The command line's parser reads the annotations at run time.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
from cyclopts import Group, Parameter

from imagen_async.cli.exit_codes import Exit
from imagen_async.cli.formatting import count
from imagen_async.cli.options import Whole, fault_rates, latency_range
from imagen_async.cli.signals import listening
from imagen_async.cli.speech import give, say
from imagen_async.exceptions import printable

if TYPE_CHECKING:
    from imagen_async.sandbox import Ledger, LedgerEntry, SandboxGateway

__all__ = ["NO_BEHAVIOUR", "Behaviour", "sandbox"]

_BEHAVIOUR = Group.create_ordered("How it behaves")


@Parameter(name="*", group=_BEHAVIOUR)
@attrs.frozen(kw_only=True)
class Behaviour:
    """How the sandbox behaves.

    Attributes:
        latency: Seconds a request takes: S, or LOW-HIGH. By default 0.
        rpm: Requests it admits in any minute; the rest get a 429.
        max_concurrent: Requests it works on at once; one more gets a 429.
        retry_after: Seconds in the Retry-After of a 429, or exact.
        fault: KIND=RATE, such as 429=0.1 500=5%; several after one another, or repeated.
        faults_per_body: Only the first so many requests with the same body meet a fault.
        filtered: Share of requests whose images are all filtered.
        short: Share of requests answered with fewer images than asked.
        seed: Where its draws start: the same seed, the same faults.
        ledger: File to which every request and bill is appended.
        tiny: Make images of a few hundred bytes.
    """

    latency: Annotated[str, Parameter(metavar="S")] = "0"
    rpm: Whole | None = None
    max_concurrent: Whole | None = None
    retry_after: str | None = None
    fault: Annotated[tuple[str, ...], Parameter(consume_multiple=True, metavar="KIND=RATE")] = ()
    faults_per_body: Whole | None = None
    filtered: float = 0.0
    short: float = 0.0
    seed: Whole = 0
    ledger: Path | None = None
    tiny: bool = False

    def keywords(self) -> dict[str, Any]:
        """Return the options of a `SandboxGateway`.

        Raises:
            ConfigurationError: A value does not fit.
        """
        given = attrs.asdict(self)
        del given["fault"], given["tiny"]
        return {
            **given,
            "latency": latency_range(self.latency, option="--latency"),
            "retry_after": _retry_after(self.retry_after),
            "faults": fault_rates(self.fault, option="--fault"),
            "images": "tiny" if self.tiny else "realistic",
        }


NO_BEHAVIOUR = Behaviour()


def _retry_after(text: str | None) -> float | str | None:
    return text if text is None or text == "exact" else latency_range(text, option="--retry-after")[0]


def sandbox(
    *,
    host: str = "127.0.0.1",
    port: Whole = 0,
    behaviour: Behaviour = NO_BEHAVIOUR,
    quiet: bool = False,
    list_faults: bool = False,
) -> int:
    """Run a gateway on this machine that speaks the contract and shows faults on demand.

    Args:
        host: Address to listen on; anything but the default opens it to the network.
        port: Port to listen on; by default a free one.
        behaviour: How it behaves.
        quiet: Print no line for each request.
        list_faults: Print the kinds of faults, and end.
    """
    from imagen_async.sandbox import FAULTS, SandboxGateway

    if list_faults:
        width = max(map(len, FAULTS))
        give("\n".join(f"{fault.name.ljust(width)}  {fault.about}" for fault in FAULTS.values()))
        return Exit.SUCCEEDED
    on_request = None if quiet else _print_request
    return asyncio.run(_serve(SandboxGateway(host=host, port=port, on_request=on_request, **behaviour.keywords())))


async def _serve(gateway: "SandboxGateway") -> int:
    ended = asyncio.Event()
    with listening(lambda _: ended.set()):
        async with gateway:
            give(_welcome(gateway.base_url, gateway.api_key))
            await ended.wait()
    say(_books(gateway.ledger))
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
    say(f"{entry.ordinal:>6}  {status}  billed {entry.billed}  sent {entry.sent}{fault}{what}")


def _books(ledger: "Ledger") -> str:
    statuses = ", ".join(
        f"{times:,} × {'no status' if status is None else status}"
        for status, times in sorted(ledger.statuses.items(), key=lambda item: item[0] or 0)
        if times
    )
    return (
        f"{count(ledger.requests, 'request')} ({statuses or 'none'}); "
        f"{count(ledger.billed_images, 'image')} billed, {ledger.sent_images:,} sent"
    )
