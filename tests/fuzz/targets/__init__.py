"""One module a target: ``check(data)``, the words it is made of (`WORDS`) and the longest input worth trying.

An input is what a gateway or a user would send, as it is: a corpus file can be read, and a mutation keeps its meaning.
Where a target needs a choice besides (where to cut, for instance), it draws it from the checksum of the input.
"""

from __future__ import annotations

TARGETS = (
    "decoder",
    "receiver",
    "skeleton",
    "image",
    "errors",
    "retry_after",
    "lines",
    "tables",
    "sources",
    "parquet",
)
"""Every target's name."""
