"""For mkdocstrings: an ``Example:`` of a docstring is code to show, as ``Examples:`` is to griffe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import griffe

if TYPE_CHECKING:
    from griffe import Object

_SINGULAR = re.compile(r"^( *)Example:$", re.MULTILINE)


class DoctestExamples(griffe.Extension):
    """Rewrites the heading before the docstring is parsed."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Look at one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _SINGULAR.sub(r"\1Examples:", obj.docstring.value)
