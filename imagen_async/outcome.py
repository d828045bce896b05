"""What came of a request: plain frozen values, the same for one image and for a million.

A failed job is an outcome too: its `error` is the typed error that `generate` would raise.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from imagen_async.exceptions import Attempt, ImagenError, StoreError, printable
from imagen_async.request import ImageRequest

__all__ = ["Image", "Outcome", "Status"]


class Status(enum.StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    """All requested images were kept."""
    PARTIAL = "partial"
    """Some of the requested images were kept."""
    FILTERED = "filtered"
    """No images: the safety filter removed all of them."""
    FAILED = "failed"
    """No images, and as far as a client can know nothing was billed."""
    IN_DOUBT = "in_doubt"
    """No images, but the request may have been billed."""
    SKIPPED = "skipped"
    """The job succeeded in an earlier run."""


def _copied(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(value)


@attrs.frozen(kw_only=True)
class Image:
    """One image that was received complete, verified, and kept.

    Attributes:
        index: Its place among the job's images, from 0.
        format: The format of the bytes, whatever was requested: ``png``, ``jpeg`` or ``webp``.
        width: Width in pixels.
        height: Height in pixels.
        size: Size in bytes.
        sha256: SHA-256 of the bytes in hexadecimal, or None if none was requested.
        data: The bytes, if the store keeps them in memory; `read` returns them whatever the store.
        path: The file, or the name that the store gives to the place; None if there is none.
        details: What the gateway says about this image, such as ``revised_prompt``.
        notes: What is unusual about it, such as JPEG bytes where PNG was requested.

    Example:
        >>> image = Image(index=0, format="png", width=1, height=1, size=3, data=b"...")
        >>> image.read()
        b'...'
    """

    index: int
    format: str
    width: int
    height: int
    size: int
    sha256: str | None = None
    data: bytes | None = attrs.field(default=None, repr=False)
    path: str | None = None
    details: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied, hash=False)
    notes: tuple[str, ...] = ()

    def read(self) -> bytes:
        """Return the bytes of the image, from memory or from its file.

        Raises:
            StoreError: The store keeps the image neither in memory nor in a file, or the file cannot be read.
        """
        if self.data is not None:
            return self.data
        if self.path is None:
            raise StoreError(f"image {self.index} is kept neither in memory nor in a file; read it from its store")
        try:
            return Path(self.path).read_bytes()
        except (OSError, ValueError) as error:
            raise _file_error("read", self.path, error) from error

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bytes of the image to a file, which appears complete or not at all.

        Missing folders are created, and an existing file is replaced. The bytes are not converted: the file has the
        image's own `format`, whatever its extension.

        Args:
            path: The file.

        Returns:
            The file's path.

        Raises:
            StoreError: The image cannot be read, or the file cannot be written.

        Example:
            >>> import tempfile
            >>> image = Image(index=0, format="png", width=1, height=1, size=3, data=b"...")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     image.save(f"{folder}/foxes/red.png").read_bytes()
            b'...'
        """
        data, target = self.read(), Path(path)
        try:
            temporary = target.with_name(f".imagen-{os.urandom(6).hex()}")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                return temporary.replace(target)
            finally:
                with suppress(OSError):
                    temporary.unlink()
        except (OSError, ValueError) as error:  # a path without a name, or with a NUL, raises ValueError
            raise _file_error("written", str(target), error) from error


def _file_error(done: str, path: str, error: OSError | ValueError) -> StoreError:
    reason = printable(getattr(error, "strerror", None) or str(error), 200)
    return StoreError(f"{printable(path)} cannot be {done}: {reason}", path=path)


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of one request.

    Attributes:
        request: The request as it was given.
        status: How the job ended.
        images: The images that were kept, in the order of their index.
        error: The typed error of a job that is ``failed``, ``filtered`` or ``in_doubt``, and of a ``partial`` job whose
            missing images did not arrive; None otherwise.
        attempts: The failed attempts, oldest first.
        notes: Unusual facts that stopped nothing, such as an unknown model.
        reasons: Why images are missing, in the gateway's words, if it named reasons.
        created: The gateway's timestamp, in seconds since the epoch, or None.
        request_id: The gateway's id of the last request, or None.
        elapsed_s: Seconds from the first attempt's permit to the end.
    """

    request: ImageRequest
    status: Status
    images: tuple[Image, ...] = ()
    error: ImagenError | None = None
    attempts: tuple[Attempt, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    created: int | None = None
    request_id: str | None = None
    elapsed_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the request needs no further attempt: it succeeded, now or in an earlier run."""
        return self.status in {Status.SUCCEEDED, Status.SKIPPED}
