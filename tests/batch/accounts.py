"""Compares the journal's exports with the gateway's ledger: images billed, kept and in doubt, request by request.

For each request, the images that the gateway billed are those that were kept of its response and those that are listed
in doubt. After a failure that this gateway does not bill, nothing was kept, and all requested images are listed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from imagen_async.catalog import CATALOG, Model
from imagen_async.sandbox import LedgerEntry, read_stamp
from tests.batch.running import errors, metadata

if TYPE_CHECKING:
    from imagen_async import ImageRequest
    from imagen_async.sandbox import Ledger

__all__ = [
    "DOLLAR",
    "FREE_DOUBTS",
    "MODELS",
    "OURS",
    "Accounts",
    "check_all_listed",
    "check_requests",
    "listed_for",
    "price",
]

OURS = CATALOG.extended(Model(id="my-finetune", price_usd=0.013))
MODELS = ("imagen-3.0-generate-002", "imagen-3.0-fast-generate-001", "my-finetune")
DOLLAR = 1e-6
"""How far sums of floats may be apart."""
FREE_DOUBTS = frozenset({"500", "502-html", "503", "error-in-200", "html-in-200"})
"""May have been billed as far as anybody can tell, and this gateway does not bill them."""


@attrs.frozen
class Accounts:
    """A folder and a ledger.

    Attributes:
        folder: The output folder.
        entries: The gateway's ledger, oldest entry first.
        kept: Images in the folder, by the request that brought them.
        doubts: The doubts that the folder lists, by job.
    """

    folder: Path
    entries: Sequence[LedgerEntry]
    kept: Mapping[str, int]
    doubts: Mapping[str, Sequence[Mapping[str, Any]]]

    @classmethod
    def of(cls, ledger: Ledger, folder: Path) -> Accounts:
        told = metadata(folder)
        stamps = [read_stamp((folder / line["file_name"]).read_bytes()) for line in told]
        assert [stamp["prompt"] for stamp in stamps] == [line["prompt"] for line in told]
        kept = Counter(stamp["request_id"] for stamp in stamps)
        doubts = {line["id"]: line["doubts"] for line in errors(folder) if "doubts" in line}
        return cls(folder, ledger.entries, kept, doubts)

    def by_job(self) -> dict[str, list[LedgerEntry]]:
        """The requests of each job."""
        found = defaultdict(list)
        for entry in self.entries:
            found[f"job{str(entry.prompt).rpartition(' ')[2]}"].append(entry)
        return found


def price(model: object) -> float:
    return OURS[str(model)].price_usd or 0.0


def listed_for(entry: LedgerEntry, kept: int) -> int:
    """How many images of a request must be listed in doubt."""
    assert kept <= entry.billed
    return entry.billed - kept + (entry.n or 0) * (entry.fault in FREE_DOUBTS)


def check_requests(accounts: Accounts, requests: Sequence[ImageRequest]) -> None:
    """Check, job by job, that only missing images were requested, and that lost billed images are listed."""
    entries = accounts.by_job()
    for request in requests:
        missing, due = request.n, []
        for entry in entries[str(request.id)]:
            assert entry.n == missing
            missing -= accounts.kept[entry.request_id]
            due.append(listed_for(entry, accounts.kept[entry.request_id]))
        doubts = accounts.doubts.get(str(request.id), ())
        assert [doubt["images"] for doubt in doubts] == [images for images in due if images]
        assert sum(doubt["usd"] for doubt in doubts) == pytest.approx(sum(due) * price(request.model), abs=DOLLAR)


def check_all_listed(accounts: Accounts, requests: Sequence[ImageRequest]) -> None:
    """As `check_requests`, after a run that was cut off: more images than were billed may be listed."""
    entries = accounts.by_job()
    for request in requests:
        missing = request.n
        for entry in entries[str(request.id)]:
            assert entry.n == missing
            missing -= accounts.kept[entry.request_id]
        due = sum(listed_for(entry, accounts.kept[entry.request_id]) for entry in entries[str(request.id)])
        assert sum(doubt["images"] for doubt in accounts.doubts.get(str(request.id), ())) >= due
