"""Splits rows into requests, and computes the digest that identifies a job in the journal.

Journals outlive a process, a Python version and a release, so the canonical form under the digest is a contract.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from imagen_async.batch.sources.rows import Row, most_in_one
from imagen_async.catalog import CATALOG, Catalog
from imagen_async.request import ImageRequest

__all__ = ["Part", "digest", "split"]

_DIGEST_SIZE = 16

# Not derived from FIELDS: a field that a later release adds must be left out of the canonical form while it has its
# default, or today's journals would lose their jobs.
_DIGESTED = ("prompt", "model", "n", "aspect_ratio", "output_format", "style", "id", "extra")


@attrs.frozen
class Part:
    """One request of a row.

    Attributes:
        request: The row's request, with an `n` that the model allows.
        row: The row.
        part: Its number within the row, from 0.
        first_index: The index of its first image within the row, from 0.
    """

    request: ImageRequest
    row: Row
    part: int
    first_index: int

    @property
    def indices(self) -> range:
        """The indices of its images within the row."""
        return range(self.first_index, self.first_index + self.request.n)


def split(row: Row, catalog: Catalog = CATALOG) -> Iterator[Part]:
    """Split a row into requests of as many images as the model allows in one.

    Args:
        row: Checked: its `n` is at least 1.
        catalog: Limits of the models.

    Example:
        >>> [(part.request.n, part.first_index) for part in split(Row(ImageRequest("A red fox", n=10), line=1))]
        [(4, 0), (4, 4), (2, 8)]
    """
    request, limit = row.request, most_in_one(row, catalog)
    for part, first in enumerate(range(0, request.n, limit)):
        n = min(limit, request.n - first)
        yield Part(request if n == request.n else attrs.evolve(request, n=n), row, part, first)


def digest(request: ImageRequest) -> bytes:
    """Return 16 bytes that identify a request, the same in every process and Python version.

    They are the beginning of the SHA-256 of the request's fields as JSON with sorted keys. Requests that are equal as
    JSON have the same digest, whatever the order of the keys in `extra`.

    Args:
        request: Checked: its `extra` has a JSON form.

    Example:
        >>> digest(ImageRequest("A red fox")).hex()
        '14ce340a14b8d5bb751bc1deae73082a'
    """
    fields = {name: getattr(request, name) for name in _DIGESTED}
    return hashlib.sha256(_CANONICAL.encode(fields).encode("ascii")).digest()[:_DIGEST_SIZE]


def _as_dict(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):  # json does not encode read-only views of a dict
        return dict(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=_as_dict)
