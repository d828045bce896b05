"""The journal's values: what goes in with a job, and what comes back of it.

Frozen values without behaviour. Nothing here knows how or where they are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = [
    "ABANDONED",
    "DIGEST_BYTES",
    "INTENT",
    "INTERRUPTED",
    "RECEIPT",
    "Admission",
    "Doubt",
    "Entry",
    "Failure",
    "History",
    "Image",
    "ListedDoubt",
    "RecordedImage",
    "Totals",
    "Unanswered",
]

INTENT = "intent"
"""The state of a job whose request was sent or is about to be."""
INTERRUPTED = "interrupted"
"""The state of a job that a run left unfinished: the next run takes it up by itself."""

ABANDONED = "the run ended while the request was in flight"
"""Why what a dead run left in flight is in doubt."""

RECEIPT = "receipt"
"""The name under which a receipt is kept."""

DIGEST_BYTES = 16
"""The length of a request's digest."""

Image = tuple[int, Mapping[str, Any]]
"""One image of a job: its index, and its record in ``metadata.jsonl``; ``bytes`` of the record is counted."""


@attrs.frozen
class Admission:
    """One job as it comes from the input.

    Attributes:
        digest: 16 bytes that stand for the request; equal requests have equal digests.
        id: The job's name in the input, any text, or None.
        stem: What its files shall be called, if no other job's are; by default the id, or else its key.
        line: Its place in the input, from 1.
        n: Images that it asks for.
    """

    digest: bytes
    id: str | None = attrs.field(default=None, kw_only=True)
    stem: str | None = attrs.field(default=None, kw_only=True)
    line: int = attrs.field(default=0, kw_only=True)
    n: int = attrs.field(default=1, kw_only=True)


@attrs.frozen(kw_only=True)
class Entry:
    """A job as the journal knew it when it was admitted.

    Attributes:
        key: The digest, followed by four bytes of occurrence number for the second and later equals.
        stem: What its files are called; any text, unique in the journal.
        id: The job's name in the input, or None.
        line: Its place in the input.
        n: Images that it asks for.
        status: How it ended in an earlier run, `INTERRUPTED`, or None if the journal has not heard of it.
        images: How many of its images earlier runs kept.
        attempts: How many requests earlier runs sent for it.
        in_doubt: How many of them are in doubt, since it last succeeded.
        idempotency_key: That of the last request, if that one has not been answered.
    """

    key: bytes
    stem: str
    id: str | None
    line: int
    n: int
    status: str | None
    images: int
    attempts: int
    in_doubt: int = 0
    idempotency_key: str | None = None


@attrs.frozen(kw_only=True)
class Doubt:
    """A request that may have been billed and did not bring all of its images.

    Attributes:
        attempt: The attempt's number, from 1: within this run when given, over all runs when listed.
        at: When it was known, in seconds since the epoch; when it was sent, if the run died before it was known.
        reason: Why it is in doubt, in words.
        images: How many images may have been billed and were not received.
        usd: What they may have cost, in US dollars by list price; 0 where the price is unknown.
        request_id: What to quote to the gateway's support, or None.
    """

    attempt: int
    at: float
    reason: str
    images: int
    usd: float = 0.0
    request_id: str | None = None


@attrs.frozen(kw_only=True)
class ListedDoubt:
    """A doubt together with its job; `status` is the job's own."""

    key: bytes
    id: str | None
    line: int
    status: str
    doubt: Doubt


@attrs.frozen(kw_only=True)
class Failure:
    """A job with something to report: it did not succeed, or it did and left doubts on the way.

    Attributes:
        key: Its key.
        id: Its name in the input, or None.
        line: Its place in the input.
        status: How it ended.
        attempts: Requests over all runs.
        at: When its state last changed, in seconds since the epoch.
        error: The record that was given with the end, or None.
        doubts: Its requests that may have been billed for nothing, oldest first.
    """

    key: bytes
    id: str | None
    line: int
    status: str
    attempts: int
    at: float
    error: Mapping[str, Any] | None
    doubts: tuple[Doubt, ...]


@attrs.frozen(kw_only=True)
class History:
    """What earlier runs recorded of a job.

    Attributes:
        images: Its images, by index.
        withdrawn: Its images whose files were damaged; an index may appear more than once.
        error: The record given with its end, or None.
    """

    images: tuple[Image, ...]
    withdrawn: tuple[Image, ...]
    error: Mapping[str, Any] | None


@attrs.frozen(kw_only=True)
class RecordedImage:
    """One image of any job, and whose it is.

    Attributes:
        seq: Its number, in the order in which images were recorded.
        key: The job's key.
        id: The job's name in the input, or None.
        line: The job's place in the input.
        index: The image's index.
        record: Its line in the metadata, as a mapping.
    """

    seq: int
    key: bytes
    id: str | None
    line: int
    index: int
    record: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Unanswered:
    """The requests that were noted as about to be sent and of which nothing was heard since.

    While a run uses the folder they are under way; after that they are doubts, which the next run writes down.

    Attributes:
        requests: How many.
        images: What they ask for together.
        usd: What that may cost, in US dollars by list price.
    """

    requests: int
    images: int
    usd: float


@attrs.frozen(kw_only=True)
class Totals:
    """The sums over a journal.

    Attributes:
        jobs: How many jobs are in each state, every state present.
        images: Images kept.
        bytes: Their size, as far as the records name it.
        attempts: Requests sent.
        doubts: Requests that may have been billed and did not bring all of their images.
        doubtful_images: The images that they may have been billed for and did not bring.
        doubtful_usd: What these may have cost, in US dollars by list price.
        unanswered: Requests that are not among the doubts, but will be if no run is using the folder.
    """

    jobs: Mapping[str, int]
    images: int
    bytes: int
    attempts: int
    doubts: int
    doubtful_images: int
    doubtful_usd: float
    unanswered: Unanswered
