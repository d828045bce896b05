"""What the columns of a table mean, and how its cells become a request.

Pure. There are two kinds of tables: in text tables (CSV, TSV) every cell is a string, and an empty one is missing; in
typed tables (Parquet) null and NaN are missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from imagen_async.batch.sources.rows import (
    BadRow,
    Row,
    Terms,
    built,
    field_named,
    id_text,
    json_fault,
    json_value,
    listed,
)
from imagen_async.exceptions import InvalidInputError
from imagen_async.request import FIELDS

__all__ = ["Columns", "row_of_cells", "row_of_values"]

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")


def _frozen(value: Mapping[str, int]) -> Mapping[str, int]:
    return MappingProxyType(dict(value))


@attrs.frozen(kw_only=True)
class Columns:
    """What the columns of a table mean.

    Attributes:
        fields: The column number, from 0, of each field of a request.
        carried: The name in the metadata of each other column number.
        unnamed: The columns of `carried` that have no name of their own.
        width: How many columns the header has.
    """

    fields: Mapping[str, int] = attrs.field(converter=_frozen)
    carried: Mapping[int, str]
    unnamed: frozenset[int]
    width: int

    @classmethod
    def of(cls, header: Sequence[str], *, source: str, line: int = 1) -> Columns:
        """Read a header; names count in any case and without the space around them.

        Raises:
            InvalidInputError: No column is the prompt, or two columns are the same one.

        Example:
            >>> Columns.of([" Prompt", "Category"], source="prompts.csv").carried
            {1: 'Category'}
        """
        names = [name.strip() or f"column {number}" for number, name in enumerate(header, 1)]
        placed = [(field_named(name), number) for number, name in enumerate(names)]
        fields = {field: number for field, number in placed if field is not None}
        problems = [*_doubled(names), *([] if "prompt" in fields else [_no_prompt(header)])]
        if problems:
            raise InvalidInputError(source, [(line, tuple(problems))], 1)
        return cls(
            fields=fields,
            carried={number: names[number] for field, number in placed if field is None},
            unnamed=frozenset(number for number, name in enumerate(header) if not name.strip()),
            width=len(names),
        )


def _doubled(names: Sequence[str]) -> Iterator[str]:
    first: dict[str, str] = {}
    for name in names:
        key = field_named(name) or f" {name}"  # fields in any case; other columns by their exact names
        if key not in first:
            first[key] = name
        elif key in FIELDS:
            yield f"the columns {listed([first[key], name])} are both the field {key}: keep one"
        else:
            yield f"two columns are called {listed([name])}: rename one"


def _no_prompt(header: Sequence[str]) -> str:
    return (
        f"no column is called 'prompt'; the columns are: {listed(header)}. The first row must name the columns, "
        f"and the known names are {', '.join(FIELDS)}, in any case; others are carried into the metadata"
    )


def row_of_cells(
    cells: Sequence[str], columns: Columns, line: int, terms: Terms, *, notes: Sequence[str] = ()
) -> Row | BadRow:
    """Return the row of the cells of a text table (CSV, TSV), where an empty cell is missing.

    Missing cells at the end count as empty, with a note; surplus cells are a mistake. The prompt is used unchanged, the
    other fields without the space around them; ``extra`` is a JSON object.

    Example:
        >>> columns = Columns.of(["prompt", "n", "mood"], source="prompts.csv")
        >>> row_of_cells(["A red fox", "3", "calm"], columns, 2, Terms()).request.n
        3
    """
    if len(cells) > columns.width:
        text = (
            f"the row has {len(cells)} cells, the header {columns.width}: a cell that holds the separator needs quotes"
        )
        return BadRow(line, (text,))
    if len(cells) < columns.width:
        text = f"the row has {len(cells)} cells, the header {columns.width}: the missing ones count as empty"
        notes = (*notes, text)
        cells = (*cells, *[""] * (columns.width - len(cells)))
    faults: list[str] = []
    texts = {field: cells[number] for field, number in columns.fields.items() if cells[number].strip()}
    given = {field: _from_text(field, text, faults) for field, text in texts.items()}
    carried = {name: cells[at] for at, name in columns.carried.items() if cells[at] or at not in columns.unnamed}
    return built(given, line, terms, carried=carried, problems=faults, notes=notes)


def _from_text(field: str, text: str, faults: list[str]) -> Any:
    if field == "prompt":
        return text
    if field == "extra":
        return _extra(text, faults)
    text = text.strip()
    return int(text) if field == "n" and _WHOLE_NUMBER.fullmatch(text) else text


def row_of_values(
    values: Sequence[Any], columns: Columns, line: int, terms: Terms, *, notes: Sequence[str] = ()
) -> Row | BadRow:
    """Return the row of the values of a typed table (Parquet), where null and NaN are missing.

    A whole float is valid for `n`, because integer columns with nulls often become floats; ``extra`` is a struct, whose
    nulls are left out, or the text of a JSON object.
    """
    faults: list[str] = []
    filled = {field: values[number] for field, number in columns.fields.items() if not _missing(values[number])}
    given = {field: _from_typed(field, value, faults) for field, value in filled.items()}
    carried = {name: None if _missing(values[number]) else values[number] for number, name in columns.carried.items()}
    return built(given, line, terms, carried=carried, problems=faults, notes=notes)


def _from_typed(field: str, value: Any, faults: list[str]) -> Any:
    if field == "id":
        return id_text(value)
    if field == "n" and isinstance(value, float) and value.is_integer():
        return int(value)
    if field == "extra" and isinstance(value, str):
        return _extra(value, faults)
    if field == "extra" and isinstance(value, Mapping):
        return {key: item for key, item in value.items() if item is not None}
    return value


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _extra(text: str, faults: list[str]) -> Any:
    try:
        return json_value(text, faults)
    except (ValueError, RecursionError) as error:
        faults.append(f"extra is not a JSON object: {json_fault(error)}")
        return {}
