"""The sandbox's books: every request, what it was billed and what it got.

In memory, and on a file if one is named: a JSON line when a bill is made, before the first byte of the answer
leaves, and one more when the answer has been sent. Each line is one write, so that the file survives a `kill -9`
and successive gateways on one path append to it. It knows nothing of HTTP.
"""

from __future__ import annotations

import json
import os
from collections import Counter, OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async.exceptions import ConfigurationError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Ledger", "LedgerEntry", "read_ledger"]

ENTRIES_KEPT = 50_000
"""Entries that a running gateway holds, the newest; totals and the file go on counting."""


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One request to the generations endpoint.

    Attributes:
        ordinal: Its place among this gateway's requests, from 1.
        at: When it came, in seconds since the epoch.
        request_id: What its answer called it.
        idempotency_key: Its ``Idempotency-Key`` header, or None.
        model: What it named, or None where the contract's check stopped it; likewise `prompt` and `n`.
        prompt: Its prompt.
        n: Images it asked for.
        status: The HTTP status sent, or None if the connection closed without one.
        fault: The fault it met, or None.
        billed: Images billed.
        sent: Images that left whole, as far as the sandbox's socket can tell.
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
    """The books of one gateway, or of all that wrote to one file.

    Args:
        path: File to append to, or None.
        keep: Entries to hold in memory, the newest; None for all. Totals always count every request.

    Attributes:
        requests: Requests recorded.
        billed_images: Images billed in all.
        sent_images: Images sent whole in all.
        statuses: How often each status was sent; None for connections closed without one.
        faults: How often each fault was shown.

    Raises:
        ConfigurationError: `path` cannot be opened.

    Example:
        >>> ledger = Ledger()
        >>> ledger.record(LedgerEntry(ordinal=1, at=0.0, request_id="a", prompt="A red fox", status=200, billed=2))
        >>> ledger.billed_for("A red fox"), ledger.billed_images
        (2, 2)
    """

    def __init__(self, path: Path | None = None, *, keep: int | None = ENTRIES_KEPT) -> None:
        self._file = None if path is None else _opened(path)
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
        """The entries held, oldest first."""
        return tuple(self._entries.values())

    def for_prompt(self, prompt: str) -> tuple[LedgerEntry, ...]:
        """Return the entries held of the requests with this prompt, oldest first."""
        return tuple(entry for entry in self.entries if entry.prompt == prompt)

    def billed_for(self, prompt: str) -> int:
        """Count the images billed for this prompt, among the entries held."""
        return sum(entry.billed for entry in self.for_prompt(prompt))

    def record(self, entry: LedgerEntry) -> None:
        """Enter a request, or replace what was entered under the same request id."""
        if self._file is not None:
            os.write(self._file, json.dumps(attrs.asdict(entry)).encode() + b"\n")
        self._count(self._entries.get(entry.request_id), -1)
        self._count(entry, +1)
        self._entries[entry.request_id] = entry
        if self._keep is not None and len(self._entries) > self._keep:
            self._entries.popitem(last=False)

    def close(self) -> None:
        """Close the file; what is in memory can still be read."""
        if self._file is not None:
            os.close(self._file)
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


def _opened(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(f"the ledger cannot be opened: {printable(str(error))}") from None
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        # A killed writer's torn line ends here; the next entry must not be glued to it.
        os.write(file, b"\n")
    return file


def read_ledger(path: str | Path) -> Ledger:
    """Read what gateways wrote to `path`, all of it into memory.

    A line that a killed writer left torn is passed over.

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
