"""Safe, unique file names for arbitrary ids, readable where the id is plain.

The rule: an id that is a plain lower-case word is its own name; every other id becomes ``<slug>~<hash>``. A plain name
never contains ``~``, so the two kinds cannot collide, and all names are lower-case ASCII, so no file system's handling
of case or Unicode can make two of them equal.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

__all__ = ["WINDOWS_DEVICES", "safe_name", "shard", "slug"]

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NOT_SLUG = re.compile(r"[^a-z0-9_-]+")
_NOT_LETTERS = re.compile(r"[^a-z]+")
WINDOWS_DEVICES = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)})
"""Names that are devices on Windows, whatever their extension."""

_SPLIT_WORDS = frozenset(
    {"train", "training", "validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation"}
)
"""Words that Hugging Face `datasets` takes for a split (`data_files.SPLIT_KEYWORDS`) between any of ``-._ 0-9`` in a
file's path. One such file, and the loader leaves out every other file of the folder."""

_SLUG_LENGTH = 40
_HASH_LENGTH = 32


def safe_name(id: str) -> str:  # noqa: A002 - ids are called id in the whole package
    """Return a file name for `id`, without an extension: at most 73 characters of ``a-z 0-9 _ - ~``.

    Example:
        >>> safe_name("red-fox_7")
        'red-fox_7'
        >>> safe_name("../Red Fox")
        'red-fox~2cf32f2120bbfccecfa1bc3d63da404a'
    """
    if _PLAIN.fullmatch(id) and id not in WINDOWS_DEVICES and not _names_a_split(id):
        return id
    readable = slug(id, _SLUG_LENGTH)
    if not readable or _names_a_split(readable):
        readable = "id"
    return f"{readable}~{_digest(id)[:_HASH_LENGTH]}"


def shard(id: str) -> str:  # noqa: A002 - ids are called id in the whole package
    """Return the name of the folder for `id`, two hex digits; folders of millions of files are slow on many systems.

    Example:
        >>> shard("red-fox_7")
        'bf'
    """
    return _digest(id)[:2]


def slug(text: str, longest: int) -> str:
    """Return the readable part of a name: at most `longest` characters of ``a-z 0-9 _ -``, empty if none remain.

    Example:
        >>> slug("A red fox, at dawn", 12), slug("狐狸", 12)
        ('a-red-fox-at', '')
    """
    # Only the beginning can appear in the slug, so a text of megabytes is not normalised whole.
    ascii_part = unicodedata.normalize("NFKD", text[: 4 * longest]).encode("ascii", "ignore").decode("ascii")
    return _NOT_SLUG.sub("-", ascii_part.lower()).strip("-_")[:longest].strip("-_")


def _digest(id: str) -> str:  # noqa: A002 - ids are called id in the whole package
    # A lone surrogate is not valid UTF-8, but JSON can contain one, so it is hashed as it is.
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()


def _names_a_split(name: str) -> bool:
    return not _SPLIT_WORDS.isdisjoint(_NOT_LETTERS.split(name))
