"""What is known about the models: limits, ratios, pixel sizes, list prices.

Facts only, and only for early advice: a model id is an open string, and one that is not listed here passes
with its limits unknown, because models come and go at a gateway faster than releases of a library.
Numbers are from the gateway's parameter table and Google's list prices; a user's own `Catalog` overrides them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from imagen_async.exceptions import ConfigurationError

__all__ = ["ASPECT_RATIOS", "CATALOG", "DEFAULT_MODEL", "OUTPUT_FORMATS", "STYLES", "Catalog", "Model"]

DEFAULT_MODEL = "imagen-3.0-generate-001"

ASPECT_RATIOS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"1:1": (1024, 1024), "9:16": (768, 1408), "16:9": (1408, 768), "3:4": (896, 1280), "4:3": (1280, 896)}
)
"""The contract's ratios and the pixel size, width × height, that each comes in."""

OUTPUT_FORMATS = ("png", "jpeg")
STYLES = ("photograph", "digital_art", "landscape", "sketch", "watercolor", "cyberpunk", "pop_art")


def _frozen(value: Mapping[str, tuple[int, int]]) -> Mapping[str, tuple[int, int]]:
    return MappingProxyType({ratio: (int(size[0]), int(size[1])) for ratio, size in value.items()})


def _strings(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"a list of texts is wanted, not the text {value!r}")
    return tuple(value)


def _number(*, least: int, whole: bool, unknown: bool = True) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Make a validator of a limit, which comes from a file as anything at all."""

    def check(_: object, field: attrs.Attribute[Any], value: object) -> None:
        if unknown and value is None:
            return
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or not least <= float(value) < math.inf:  # type: ignore[arg-type] # `fits` says so
            kind = "whole number" if whole else "number"
            raise ValueError(f"{field.name} must be a {kind} from {least}, not {value!r}")

    return check


def _texts(_: object, field: attrs.Attribute[Any], value: tuple[object, ...]) -> None:
    if not all(isinstance(text, str) for text in value):
        raise ValueError(f"{field.name} must be a list of texts, not {list(value)!r}")


@attrs.frozen(kw_only=True)
class Model:
    """One model's limits; None where a limit is unknown.

    Attributes:
        id: The name that goes into the request.
        prompt_tokens: Longest prompt, in the model's tokens, or None.
        max_n: Most images in one request.
        aspect_ratios: Ratio to pixel size (width, height).
        output_formats: Formats it can answer with.
        styles: Accepted values of ``style``; empty if the model takes none.
        price_usd: List price of one image, in US dollars, or None.

    Raises:
        ValueError: A limit or price is not a number that it could be, or a list holds what is not text.

    Example:
        >>> Model(id="my-finetune", prompt_tokens=256, price_usd=0.01).max_n
        4
    """

    id: str
    prompt_tokens: int | None = attrs.field(default=None, validator=_number(least=1, whole=True))
    max_n: int = attrs.field(default=4, validator=_number(least=1, whole=True, unknown=False))
    aspect_ratios: Mapping[str, tuple[int, int]] = attrs.field(default=ASPECT_RATIOS, converter=_frozen)
    output_formats: tuple[str, ...] = attrs.field(default=OUTPUT_FORMATS, converter=_strings, validator=_texts)
    styles: tuple[str, ...] = attrs.field(default=(), converter=_strings, validator=_texts)
    price_usd: float | None = attrs.field(default=None, validator=_number(least=0, whole=False))


class Catalog(Mapping[str, Model]):
    """An immutable table of models by id.

    Example:
        >>> mine = CATALOG.extended(Model(id="my-finetune", price_usd=0.01))
        >>> "my-finetune" in mine, "my-finetune" in CATALOG
        (True, False)
    """

    def __init__(self, models: tuple[Model, ...] = ()) -> None:
        self._models = {model.id: model for model in models}

    def __getitem__(self, model_id: str) -> Model:
        return self._models[model_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        return f"Catalog({', '.join(self._models)})"

    def extended(self, *models: Model) -> Catalog:
        """Return a catalog with `models` added; one with a known id replaces the known one."""
        return Catalog((*self._models.values(), *models))

    def extended_from(self, tables: Mapping[str, Any]) -> Catalog:
        """Return a catalog extended by plain tables, as read from a TOML or JSON file.

        Args:
            tables: Model id to a table of `Model`'s fields. An id that is known keeps the fields not named.

        Raises:
            ConfigurationError: A table names a field that a model does not have, or holds a value of a wrong type.

        Example:
            >>> mine = CATALOG.extended_from({"imagen-3.0-generate-002": {"price_usd": 0.03}})
            >>> mine["imagen-3.0-generate-002"].price_usd
            0.03
        """
        return self.extended(*(self._merged(model_id, table) for model_id, table in tables.items()))

    def _merged(self, model_id: str, table: Any) -> Model:
        known = {field.name for field in attrs.fields(Model)} - {"id"}
        if not isinstance(table, Mapping) or not set(table) <= known:
            raise ConfigurationError(f"catalog entry {model_id!r} must be a table of {', '.join(sorted(known))}")
        try:
            return attrs.evolve(self._models.get(model_id, Model(id=model_id)), **table)
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise ConfigurationError(f"catalog entry {model_id!r}: {error}") from None


CATALOG = Catalog(
    (
        Model(id="imagen-3.0-generate-001", prompt_tokens=480, price_usd=0.04),
        Model(id="imagen-3.0-generate-002", prompt_tokens=480, price_usd=0.04),
        Model(id="imagen-3.0-fast-generate-001", prompt_tokens=480, price_usd=0.02),
        Model(id="imagegeneration@002", prompt_tokens=128, styles=STYLES, price_usd=0.04),
        Model(id="imagegeneration@005", prompt_tokens=128, price_usd=0.04),
        Model(id="imagegeneration@006", prompt_tokens=128, price_usd=0.04),
    )
)
"""The six models that the gateway documents."""
