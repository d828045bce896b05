"""The records of a job: the line of an image in ``metadata.jsonl``, and the record of a failure.

Every line has the same keys in the same order, so that the folder loads as one table.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from imagen_async.exceptions import GatewayError, ImagenError, JournalError, ProtocolError, TransportError, printable
from imagen_async.outcome import Image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagen_async.batch.parts import Part
    from imagen_async.outcome import Outcome

__all__ = ["FILTERED_PART", "error_record", "image_record", "recorded_image"]

FILTERED_PART = "partial"
"""The type of a record without an error: the safety filter removed some images."""


def image_record(part: Part, image: Image, *, folder: str, outcome: Outcome | None) -> dict[str, Any]:
    """Return the line of one image.

    Args:
        part: The request that it belongs to.
        image: The image, in a file below `folder`.
        folder: The output folder. ``file_name`` starts there, as ``imagefolder`` loaders expect.
        outcome: The outcome that brought it; None if it was found on disk.
    """
    assert image.path is not None, "a LocalStore returns paths"  # noqa: S101 - its contract
    request = part.row.request
    revised = image.details.get("revised_prompt")
    record: dict[str, Any] = {
        "file_name": _relative_name(image.path, folder),
        "prompt": request.prompt,
        "id": request.id,
        "index": image.index,
        "line": part.row.line,
        "model": request.model,
        "aspect_ratio": request.aspect_ratio,
        "output_format": request.output_format,
        "style": request.style,
        "format": image.format,
        "width": image.width,
        "height": image.height,
        "bytes": image.size,
        "sha256": image.sha256,
        "created": outcome.created if outcome else None,
        "request_id": outcome.request_id if outcome else None,
        "revised_prompt": revised if isinstance(revised, str) else None,
        "notes": "; ".join((*(outcome.notes if outcome else ()), *image.notes)) or None,
    }
    if part.row.metadata:
        record |= _carried(part, taken={name.casefold() for name in record})
    return record


def _carried(part: Part, *, taken: set[str]) -> dict[str, Any]:
    """Return the row's other columns; one whose name is taken or has a meaning to a loader gets another name."""
    carried: dict[str, Any] = {}
    for name, value in part.row.metadata.items():
        free = name
        while _is_taken(free.casefold(), taken):
            free = f"{free}_of_row"
        taken.add(free.casefold())
        carried[free] = value
    return carried


def _is_taken(name: str, taken: set[str]) -> bool:
    # Hugging Face `datasets` (`FolderBasedBuilder`) makes a column ``image`` of ``file_name``, and reads every
    # ``*_file_name`` as a path: if one does not exist, the folder does not load.
    return name in taken or name == "image" or name.endswith(("file_name", "file_names"))


def recorded_image(record: Mapping[str, Any], *, index: int, folder: PurePath) -> Image:
    """Return the image that `image_record` made `record` of.

    Args:
        record: The record in the journal.
        index: The image's index.
        folder: The output folder.

    Raises:
        JournalError: `image_record` cannot have made it.
    """
    try:
        return Image(
            index=index,
            format=record["format"],
            width=record["width"],
            height=record["height"],
            size=record["bytes"],
            sha256=record["sha256"],
            path=str(folder / record["file_name"]),
        )
    except (KeyError, TypeError) as error:
        raise JournalError(f"the journal is damaged: an image's record is wrong at {printable(str(error))}") from None


def _relative_name(path: str, folder: str) -> str:
    """Return `path` relative to `folder`, with forward slashes."""
    inside = f"{folder}/"
    if path.startswith(inside):  # nearly always, and twenty times as fast
        return path.removeprefix(inside)
    return PurePath(path).relative_to(folder).as_posix()


def error_record(
    part: Part, error: ImagenError | None, outcome: Outcome | None, *, doubted: bool = False
) -> dict[str, Any] | None:
    """Return the record of a job for ``errors.jsonl``, or None if there is nothing to report.

    Args:
        part: The request.
        error: Why it failed, or None.
        outcome: Its outcome, or None.
        doubted: Whether requests of it may be in doubt: then it is listed although it succeeded.
    """
    succeeded = error is None and (outcome is None or outcome.ok)
    if succeeded and not doubted:
        return None
    record: dict[str, Any] = {
        "prompt": part.row.request.prompt,
        "model": part.row.request.model,
        "n": part.request.n,
        "images": len(outcome.images) if outcome else 0,
    }
    if succeeded:
        return record
    reasons = {"reasons": list(outcome.reasons)} if outcome and outcome.reasons else {}
    if error is None:
        return record | {"type": FILTERED_PART, "message": "the safety filter took some of the images"} | reasons
    record |= {"type": type(error).__name__, "message": printable(str(error), 2000)} | reasons
    if isinstance(error, GatewayError):
        record |= {"http_status": error.status, "code": error.code, "request_id": error.request_id}
        record |= {"support_codes": list(error.support_codes)} if error.support_codes else {}
    elif isinstance(error, ProtocolError):
        record |= {"check": error.check, "offset": error.offset, "request_id": error.request_id}
    elif isinstance(error, TransportError):
        record |= {"sent": error.sent} if error.offset is None else {"sent": error.sent, "offset": error.offset}
    return record
