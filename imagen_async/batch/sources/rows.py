"""Turns one line or table row into one checked request, or into all mistakes of the row.

Pure: returns a `Row` or a `BadRow` for text and plain values, and raises for no value of a file. A missing cell (an
empty cell of a text table, a null) leaves the field to the defaults; a column that is not a field of a request is
carried into the metadata. Rows under a header are in `columns`.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from imagen_async.batch.sources.plain import NotPlainError, plain
from imagen_async.catalog import CATALOG, Catalog
from imagen_async.exceptions import ConfigurationError, printable
from imagen_async.request import FIELDS, ImageRequest, check_request

__all__ = [
    "MAX_IMAGES",
    "BadRow",
    "Row",
    "Terms",
    "as_row",
    "as_rows",
    "built",
    "field_named",
    "id_text",
    "json_fault",
    "json_value",
    "listed",
    "row_of_json",
    "row_of_text",
]

MAX_IMAGES = 10_000
"""Most images of one row, which is split into requests later."""

_NAMES_SHOWN = 12


def _copied(value: Mapping[str, Any]) -> dict[str, Any]:
    # Not `dict` itself, whose overloads type checkers would apply to the field.
    return dict(value)


@attrs.frozen
class Row:
    """A row that may be sent.

    Attributes:
        request: The request of the row; `n` may exceed the model's limit, up to `MAX_IMAGES`.
        line: Where the row starts in its file, from 1; for Parquet and Python values the row's number.
        metadata: The columns that are not fields of a request, under their own names; always has a JSON form.
        notes: Unusual but valid facts.
    """

    request: ImageRequest
    line: int
    metadata: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied, hash=False)
    notes: tuple[str, ...] = ()


@attrs.frozen
class BadRow:
    """A row that must not be sent.

    Attributes:
        line: Where the row starts in its file, from 1.
        problems: Every mistake of the row, one sentence each.
    """

    line: int
    problems: tuple[str, ...]


def _checked_defaults(defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    if wrong := sorted(set(defaults) - (set(FIELDS) - {"prompt", "id"})):
        raise ConfigurationError(
            f"no default can be set for {', '.join(wrong)}: each row has its own, or there is none"
        )
    return MappingProxyType({name: value for name, value in defaults.items() if value is not None})


@attrs.frozen(kw_only=True)
class Terms:
    """Defaults and limits that apply to every row of a source.

    Attributes:
        defaults: Request fields, apart from `prompt` and `id`, for rows that do not set them; None sets no default.
        catalog: The models, with their limits.
    """

    defaults: Mapping[str, Any] = attrs.field(factory=dict, converter=_checked_defaults)
    catalog: Catalog = CATALOG


def row_of_text(prompt: str, line: int, terms: Terms) -> Row | BadRow:
    """Return the row of a prompt.

    Example:
        >>> row_of_text("A red fox", 1, Terms(defaults={"n": 2})).request.n
        2
    """
    return built({"prompt": prompt}, line, terms)


def row_of_json(text: str, line: int, terms: Terms) -> Row | BadRow:
    """Return the row of a JSON text: an object, or a string as the prompt.

    Args:
        text: The line, with or without its end.
        line: Its number.
        terms: The terms of every row.

    Example:
        >>> row_of_json('{"Prompt": "A red fox", "n": 2, "mood": "calm"}', 1, Terms()).metadata["mood"]
        'calm'
    """
    faults: list[str] = []
    try:
        value = json_value(text, faults)
    except (ValueError, RecursionError) as error:
        return BadRow(line, (f"the line is not JSON: {json_fault(error)}",))
    if isinstance(value, str):
        return built({"prompt": value}, line, terms, problems=faults)
    if not isinstance(value, dict):
        kind = type(value).__name__
        return BadRow(line, (*faults, f"the line must be a JSON object or a text, not a value of type {kind}"))
    given = _fields_of_object(value, faults)
    carried = {name: item for name, item in value.items() if field_named(name) is None}
    return built(given, line, terms, carried=carried, problems=faults)


def _fields_of_object(value: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    seen: set[str] = set()
    for name, item in value.items():
        if (field := field_named(name)) is None:
            continue
        if field in seen:
            faults.append(f"the keys of the object name the field {field} twice")
        seen.add(field)
        if item is not None:
            given[field] = id_text(item) if field == "id" else item
    if "prompt" not in given:
        faults.append(f"the object has no prompt; its keys are: {listed(value)}")
        given["prompt"] = "-"  # lets the other fields be checked too
    return given


def as_row(item: object, line: int, terms: Terms | None = None) -> Row | BadRow:
    """Return the row of a Python item: a prompt, a request, or a row, which is returned itself if it is valid.

    Args:
        item: A text, an `ImageRequest` or a `Row`; any other item makes a `BadRow`.
        line: The item's number, from 1.
        terms: Its defaults apply to prompts only, because a request has all fields.

    Example:
        >>> as_row(ImageRequest("A red fox", n=9), 1).request.n
        9
    """
    terms = terms or Terms()
    if isinstance(item, Row):
        problems = check_request(item.request, terms.catalog, max_n=MAX_IMAGES).problems
        return BadRow(item.line, problems) if problems else item
    if isinstance(item, str):
        return row_of_text(item, line, terms)
    if isinstance(item, ImageRequest):
        return _judged(item, line, terms)
    return BadRow(line, (f"an item must be a prompt, an ImageRequest or a Row, not {type(item).__name__}",))


def as_rows(items: Iterable[object], terms: Terms | None = None) -> Iterator[Row | BadRow]:
    """Read Python items lazily, numbered from 1.

    Example:
        >>> [row.line for row in as_rows(["A red fox", "A cute baby sea otter"])]
        [1, 2]
    """
    terms = terms or Terms()
    return (as_row(item, number, terms) for number, item in enumerate(items, 1))


def built(
    given: Mapping[str, Any],
    line: int,
    terms: Terms,
    *,
    carried: Mapping[str, Any] = MappingProxyType({}),
    problems: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> Row | BadRow:
    """Return the row of some fields; other fields come from the defaults, then from the contract."""
    request = ImageRequest(**{"prompt": "", **terms.defaults, **given})
    return _judged(request, line, terms, carried=carried, problems=problems, notes=notes)


def _judged(
    request: ImageRequest,
    line: int,
    terms: Terms,
    *,
    carried: Mapping[str, Any] = MappingProxyType({}),
    problems: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> Row | BadRow:
    findings = check_request(request, terms.catalog, max_n=MAX_IMAGES)
    mistakes = [*problems, *findings.problems]
    metadata: dict[str, Any] = {}
    for name, value in carried.items():
        try:
            metadata[plain(name)] = plain(value)
        except NotPlainError as error:
            mistakes.append(f"column {printable(repr(name), 40)} cannot be carried along: {error}")
    if mistakes:
        return BadRow(line, tuple(mistakes))
    return Row(request, line, metadata, (*notes, *findings.notes))


def json_value(text: str, faults: list[str]) -> Any:
    """Parse JSON strictly; repeated keys and NaN are added to `faults`, invalid JSON raises as in `json.loads`."""
    try:
        return _FAULTLESS.decode(text)
    except (ValueError, RecursionError):
        return _json_with_faults(text, faults)


def _faultless_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError
    return made


def _no_constant(_: str) -> None:
    raise ValueError


# Made once: `json.loads` makes a decoder for each text, which takes longer than decoding a row.
_FAULTLESS = json.JSONDecoder(object_pairs_hook=_faultless_object, parse_constant=_no_constant)


def _json_with_faults(text: str, faults: list[str]) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            times = collections.Counter(name for name, _ in pairs)
            faults.append(f"a JSON object repeats keys: {listed(name for name in times if times[name] > 1)}")
        return made

    def no_number(name: str) -> None:
        faults.append(f"{name} is not a JSON number")

    return json.loads(text, object_pairs_hook=unique, parse_constant=no_number)


def json_fault(error: Exception) -> str:
    """Return in a few words why `json_value` raised."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else printable(str(error), 120)


def field_named(name: str) -> str | None:
    """Return the field of a request that a column or key names, in any case, or None."""
    if name in FIELDS:
        return name
    folded = name.strip().casefold()
    return folded if folded in FIELDS else None


def id_text(value: Any) -> Any:
    """Return a whole number as text, because tables number their jobs."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def listed(names: Iterable[str]) -> str:
    """Return the first names, safe to print."""
    every = [printable(repr(name), 40) for name in names]
    more = [f"and {len(every) - _NAMES_SHOWN} more"] if len(every) > _NAMES_SHOWN else []
    return ", ".join(every[:_NAMES_SHOWN] + more) or "none"


_UNKNOWN_MAX_N = 4
"""The contract's limit, for models that the catalog does not know."""


def requests_of(row: Row, catalog: Catalog = CATALOG) -> int:
    """Return into how many requests a row is split.

    Example:
        >>> requests_of(Row(ImageRequest("A red fox", n=10), line=1))
        3
    """
    return -(-row.request.n // most_in_one(row, catalog))


def most_in_one(row: Row, catalog: Catalog) -> int:
    """Return the largest `n` that one request for the row's model may have."""
    known = catalog.get(row.request.model)
    return known.max_n if known else _UNKNOWN_MAX_N
