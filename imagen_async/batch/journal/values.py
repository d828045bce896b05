"""The values that the journal takes and returns: frozen, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = [
    "ABANDONED",
    "DIGEST_BYTES",
    "FINISHED_INPUT",
    "INTENT",
    "INTERRUPTED",
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
"""The state of a job whose request is about to be sent or in flight."""
INTERRUPTED = "interrupted"
"""The state of a job that a run left unfinished: the next run resumes it."""

ABANDONED = "the run ended while the request was in flight"
"""Why a request is in doubt that a killed run left in flight."""

FINISHED_INPUT = "finished input"
"""The name of the record that every job of an input has succeeded."""

DIGEST_BYTES = 16
"""The length of a request's digest."""

Image = tuple[int, Mapping[str, Any]]
"""One image of a job: its index, and its record in ``metadata.jsonl``; ``bytes`` of the record is counted."""


@attrs.frozen
class Admission:
    """One job of the input.

    Attributes:
        digest: 16 bytes that identify the request; equal requests have equal digests.
        id: The job's name in the input, any text, or None.
        stem: The wanted name of its files, if no other job has it; by default the id, or else its key.
        line: Its place in the input, from 1.
        n: Images that it requests.
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
        key: The digest, followed by a number in four bytes for the second and later of equal jobs.
        stem: The name of its files; any text, unique in the journal.
        id: The job's name in the input, or None.
        line: Its place in the input.
        n: Images that it requests.
        status: How it ended in an earlier run, `INTERRUPTED`, or None if no run has begun it.
        images: How many of its images earlier runs kept.
        attempts: How many requests earlier runs sent for it.
        in_doubt: How many of them are in doubt, since it last succeeded.
        idempotency_key: Key of the last request, if that has no response.
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
        attempt: The attempt's number, from 1: within this run when recorded, over all runs when listed.
        at: When it failed, in seconds since the epoch; when it was sent, if the run died before that.
        reason: Why it is in doubt.
        images: How many images may have been billed and were not received.
        usd: What they may have cost, in US dollars by list price; 0 where the price is unknown.
        request_id: For the gateway's support, or None.
    """

    attempt: int
    at: float
    reason: str
    images: int
    usd: float = 0.0
    request_id: str | None = None


@attrs.frozen(kw_only=True)
class ListedDoubt:
    """A doubt together with the id and the line of its job."""

    id: str | None
    line: int
    doubt: Doubt


@attrs.frozen(kw_only=True)
class Failure:
    """A job to report: it did not succeed, or some of its requests are in doubt.

    Attributes:
        id: Its name in the input, or None.
        line: Its place in the input.
        status: How it ended.
        attempts: Requests over all runs.
        at: When its state last changed, in seconds since the epoch.
        error: The record given with its end, or None.
        doubts: Its requests in doubt, oldest first.
    """

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
    """One image, and its job.

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
    """The requests with an intent and without a response.

    While a run uses the folder they are in flight; after that they are in doubt, which the next run records.

    Attributes:
        requests: How many.
        images: How many images they request.
        usd: What these may cost, in US dollars by list price.
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
        bytes: Their size.
        attempts: Requests sent.
        doubts: Requests in doubt.
        doubtful_images: Images that they may have been billed for and did not bring.
        doubtful_usd: What these may have cost, in US dollars by list price.
        unanswered: Further requests, which are in doubt if no run is using the folder.
    """

    jobs: Mapping[str, int]
    images: int
    bytes: int
    attempts: int
    doubts: int
    doubtful_images: int
    doubtful_usd: float
    unanswered: Unanswered
