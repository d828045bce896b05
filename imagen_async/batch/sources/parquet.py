"""Reads Parquet files into rows, a small batch at a time.

pyarrow, an extra, is imported when a file is read. Columns of bytes (mostly pictures) are never read.
"""

from __future__ import annotations

import importlib
from typing import IO, TYPE_CHECKING, Any

import attrs

from imagen_async.batch.sources.columns import Columns, row_of_values
from imagen_async.exceptions import ConfigurationError, MissingExtraError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from imagen_async.batch.sources.rows import BadRow, Row, Terms

__all__ = ["read_parquet"]

_BATCH_ROWS = 256
_BUFFER = 1 << 18
"""Bytes of a column chunk that are read together; without it pyarrow reads the whole chunk."""


def read_parquet(stream: IO[bytes], terms: Terms, source: str) -> Iterator[Row | BadRow]:
    """Read the rows of a Parquet file, numbered from 1.

    Args:
        stream: Seekable.
        terms: The terms of every row.
        source: The file's name, for messages.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ConfigurationError: The file is not Parquet, or it is damaged.
        InvalidInputError: The columns cannot be used.
    """
    arrow = _pyarrow()
    try:
        yield from _rows(arrow, stream, terms, source)
    # Damage raises any of these: OSError in the footer, UnicodeDecodeError in names.
    except (arrow.lib.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{source} cannot be read as Parquet: {printable(str(error), 200)}") from None


def _pyarrow() -> ModuleType:
    try:
        arrow = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtraError("reading .parquet", "parquet") from None
    return arrow


@attrs.frozen
class _Batch:
    """The values of some rows, column by column, with a note for each column that could not be read."""

    columns: list[list[Any]]
    notes: tuple[str, ...]


def _rows(arrow: ModuleType, stream: IO[bytes], terms: Terms, source: str) -> Iterator[Row | BadRow]:
    with arrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER) as file:
        schema = file.schema_arrow
        every = Columns.of(schema.names, source=source)  # with all columns, to recognize a prompt of bytes
        names = [field.name for field in schema if not _holds_bytes(arrow, field.type)]
        left_out = tuple(_not_carried(name) for name in schema.names if name not in names)
        if schema.names[every.fields["prompt"]] not in names:
            raise ConfigurationError(f"{source}: the prompt column holds bytes, not text: cast it to string")
        columns = Columns.of(names, source=source)
        number = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
            read = _values(arrow, batch, names)
            for values in zip(*read.columns, strict=True):
                number += 1
                yield row_of_values(values, columns, number, terms, notes=left_out + read.notes)


def _holds_bytes(arrow: ModuleType, kind: Any) -> bool:
    test = arrow.types
    if test.is_binary(kind) or test.is_large_binary(kind) or test.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(arrow, part) for part in _parts(arrow, kind))


def _parts(arrow: ModuleType, kind: Any) -> list[Any]:
    if arrow.types.is_struct(kind):
        return [kind.field(at).type for at in range(kind.num_fields)]
    if arrow.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.value_type] if hasattr(kind, "value_type") else []  # lists and dictionaries


def _values(arrow: ModuleType, batch: Any, names: list[str]) -> _Batch:
    columns: list[list[Any]] = []
    notes: list[str] = []
    for name in names:
        column = batch.column(batch.schema.get_field_index(name))
        try:
            columns.append(_in_microseconds(arrow, column).to_pylist())
        except (ValueError, OverflowError):  # a date beyond what Python's types can hold
            columns.append([None] * len(column))
            notes.append(_not_carried(name))
    return _Batch(columns, tuple(notes))


def _in_microseconds(arrow: ModuleType, column: Any) -> Any:
    # Python's dates stop at microseconds, and to_pylist refuses to round.
    test, kind = arrow.types, column.type
    if test.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(arrow.timestamp("us", kind.tz), safe=False)
    if test.is_duration(kind) and kind.unit == "ns":
        return column.cast(arrow.duration("us"), safe=False)
    if test.is_time64(kind) and kind.unit == "ns":
        return column.cast(arrow.time64("us"), safe=False)
    return column


def _not_carried(name: str) -> str:
    return f"column {printable(repr(name), 40)} holds bytes or values out of range: it is not carried along"
