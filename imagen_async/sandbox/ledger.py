"""The sandbox's ledger: every request, what it was billed and what it received.

The ledger is in memory, and in a file if one is named: a JSON line when a request is billed, before the first byte of
the response is sent, and another when the response has been sent. Each line is one write, so the file survives a
`kill -9`, and successive gateways append to the same file.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from io import SEEK_END
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async.exceptions import ConfigurationError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

__all__ = ["Ledger", "LedgerEntry", "read_ledger"]

ENTRIES_KEPT = 50_000
"""Number of entries that a running gateway holds, the newest; totals and the file cover all."""


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One request to the generations endpoint.

    Attributes:
        ordinal: Its place among this gateway's requests, from 1.
        at: Time of arrival, in seconds since the epoch.
        request_id: The id in its response.
        idempotency_key: Its ``Idempotency-Key`` header, or None.
        model: The model it asked for, or None if the request broke the contract.
        prompt: Its prompt, or None if the request broke the contract.
        n: Number of images it asked for, or None if the request broke the contract.
        status: The HTTP status sent, or None if the connection closed without one.
        fault: The fault it met, or None.
        billed: Number of images billed.
        sent: Number of complete images sent, as far as the sandbox's socket can tell.
    """

    ordinal: int
    at: float
    request_id: str
    idempotency_key: str | None = None
    model: str | None = None
    prompt: str | None = None
    n: int | None = None
    status: int | None = None
    fault: str | None = None
    billed: int = 0
    sent: int = 0


_FIELDS = frozenset(field.name for field in attrs.fields(LedgerEntry))


class Ledger:
    """The requests of one gateway, or of all gateways that wrote to one file.

    Args:
        path: File to append to, or None.
        keep: Number of entries to hold in memory, the newest; None holds all. Totals cover every request.

    Attributes:
        requests: Number of requests recorded.
        billed_images: Number of images billed.
        sent_images: Number of complete images sent.
        statuses: Count of each status sent; None counts connections closed without one.
        faults: Count of each fault that a request met.

    Raises:
        ConfigurationError: `path` cannot be opened.

    Example:
        >>> ledger = Ledger()
        >>> ledger.record(LedgerEntry(ordinal=1, at=0.0, request_id="a", prompt="A red fox", status=200, billed=2))
        >>> ledger.billed_for("A red fox"), ledger.billed_images
        (2, 2)
    """

    def __init__(self, path: Path | None = None, *, keep: int | None = ENTRIES_KEPT) -> None:
        self._file = None if path is None else _open(path)
        self._keep = keep
        self._entries: OrderedDict[str, LedgerEntry] = OrderedDict()
        self.requests = 0
        self.billed_images = 0
        self.sent_images = 0
        self.statuses: Counter[int | None] = Counter()
        self.faults: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[LedgerEntry]:
        return iter(self.entries)

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        """The entries in memory, oldest first."""
        return tuple(self._entries.values())

    def for_prompt(self, prompt: str) -> tuple[LedgerEntry, ...]:
        """Return the entries in memory with this prompt, oldest first."""
        return tuple(entry for entry in self.entries if entry.prompt == prompt)

    def billed_for(self, prompt: str) -> int:
        """Return the number of images billed for this prompt, among the entries in memory."""
        return sum(entry.billed for entry in self.for_prompt(prompt))

    def record(self, entry: LedgerEntry) -> None:
        """Record a request, or replace the entry with the same request id."""
        if self._file is not None:
            self._file.write(json.dumps(attrs.asdict(entry)).encode() + b"\n")
        self._count(self._entries.get(entry.request_id), -1)
        self._count(entry, +1)
        self._entries[entry.request_id] = entry
        if self._keep is not None and len(self._entries) > self._keep:
            self._entries.popitem(last=False)

    def close(self) -> None:
        """Close the file; the entries in memory can still be read."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _count(self, entry: LedgerEntry | None, sign: int) -> None:
        if entry is None:
            return
        self.requests += sign
        self.billed_images += sign * entry.billed
        self.sent_images += sign * entry.sent
        self.statuses[entry.status] += sign
        if entry.fault is not None:
            self.faults[entry.fault] += sign


def _open(path: Path) -> FileIO:
    try:
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise ConfigurationError(
            f"the ledger cannot be opened: {printable(str(error))}; name a writable file"
        ) from None
    if file.tell() and file.seek(-1, SEEK_END) >= 0 and file.read(1) != b"\n":
        # A killed writer left a torn line; the next entry must not be joined to it.
        file.write(b"\n")
    return file


def read_ledger(path: str | Path) -> Ledger:
    """Read a ledger file, all of it into memory.

    Torn lines of killed writers are skipped.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    ledger = Ledger(keep=None)
    try:
        with Path(path).open("rb") as lines:
            for line in lines:
                if (entry := _parsed(line)) is not None:
                    ledger.record(entry)
    except OSError as error:
        raise ConfigurationError(f"the ledger cannot be read: {printable(str(error))}") from None
    return ledger


def _parsed(line: bytes) -> LedgerEntry | None:
    try:
        fields: Any = json.loads(line)
        return LedgerEntry(**{name: value for name, value in fields.items() if name in _FIELDS})
    except (ValueError, TypeError, AttributeError):
        return None
