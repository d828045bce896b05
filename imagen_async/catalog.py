"""Facts about the models: limits, ratios, pixel sizes and list prices.

They serve early checks only. A model that is not listed is sent with a note, because models change at a gateway more
often than this library is released. The facts are from the gateway's parameter table and Google's list prices; a
`Catalog` of your own overrides them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from imagen_async._validation import Number, nearest, shown
from imagen_async.exceptions import ConfigurationError

__all__ = ["ASPECT_RATIOS", "CATALOG", "DEFAULT_MODEL", "OUTPUT_FORMATS", "STYLES", "Catalog", "Model"]

DEFAULT_MODEL = "imagen-3.0-generate-001"

ASPECT_RATIOS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"1:1": (1024, 1024), "9:16": (768, 1408), "16:9": (1408, 768), "3:4": (896, 1280), "4:3": (1280, 896)}
)
"""The ratios of the API, each with the pixel size, width × height, of its images."""

OUTPUT_FORMATS = ("png", "jpeg")
STYLES = ("photograph", "digital_art", "landscape", "sketch", "watercolor", "cyberpunk", "pop_art")


def _frozen(value: Mapping[str, tuple[int, int]]) -> Mapping[str, tuple[int, int]]:
    try:
        return MappingProxyType({ratio: (int(size[0]), int(size[1])) for ratio, size in value.items()})
    except (AttributeError, TypeError, ValueError, LookupError):
        raise ConfigurationError(
            f"Model.aspect_ratios must be a table of ratios, each with width and height, not {shown(value)}"
        ) from None


def _strings(value: object) -> tuple[str, ...]:
    texts = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else None
    if texts is None or not all(isinstance(text, str) for text in texts):
        raise ConfigurationError(f"formats and styles must be lists of texts, not {shown(value)}")
    return texts


@attrs.frozen(kw_only=True)
class Model:
    """The limits of one model; None where a limit is unknown.

    Attributes:
        id: The model's name in requests.
        prompt_tokens: Longest prompt, in the model's tokens, or None.
        max_n: Most images in one request.
        aspect_ratios: The pixel size, (width, height), of each ratio.
        output_formats: Formats that it can return.
        styles: Accepted values of ``style``; empty if the model has no styles.
        price_usd: List price of one image in US dollars, or None.

    Raises:
        ConfigurationError: A value has a wrong type or is out of its range.

    Example:
        >>> Model(id="my-finetune", prompt_tokens=256, price_usd=0.01).max_n
        4
    """

    id: str
    prompt_tokens: int | None = attrs.field(default=None, validator=Number(1, whole=True, optional=True))
    max_n: int = attrs.field(default=4, validator=Number(1, whole=True))
    aspect_ratios: Mapping[str, tuple[int, int]] = attrs.field(default=ASPECT_RATIOS, converter=_frozen)
    output_formats: tuple[str, ...] = attrs.field(default=OUTPUT_FORMATS, converter=_strings)
    styles: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    price_usd: float | None = attrs.field(default=None, validator=Number(0, optional=True))


class Catalog(Mapping[str, Model]):
    """An immutable table of models by id.

    Args:
        models: The models.

    Attributes:
        by_id: The models by id, as a mapping whose methods are not written in Python.

    Example:
        >>> mine = CATALOG.extended(Model(id="my-finetune", price_usd=0.01))
        >>> "my-finetune" in mine, "my-finetune" in CATALOG
        (True, False)
    """

    def __init__(self, models: tuple[Model, ...] = ()) -> None:
        self.by_id: Mapping[str, Model] = MappingProxyType({model.id: model for model in models})

    def __getitem__(self, model_id: str) -> Model:
        return self.by_id[model_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_id)

    def __len__(self) -> int:
        return len(self.by_id)

    def __repr__(self) -> str:
        return f"Catalog({', '.join(self.by_id)})"

    def extended(self, *models: Model) -> Catalog:
        """Return a catalog with `models` added; a model replaces another one of the same id."""
        return Catalog((*self.by_id.values(), *models))

    def extended_from(self, tables: Mapping[str, Any]) -> Catalog:
        """Return a catalog extended by plain tables, as read from a TOML or JSON file.

        Args:
            tables: Fields of `Model` by model id. A known model keeps the fields that its table leaves out.

        Raises:
            ConfigurationError: A table has an unknown field, or a value of a wrong type or out of its range.

        Example:
            >>> mine = CATALOG.extended_from({"imagen-3.0-generate-002": {"price_usd": 0.03}})
            >>> mine["imagen-3.0-generate-002"].price_usd
            0.03
        """
        return self.extended(*(self._merged(model_id, table) for model_id, table in tables.items()))

    def _merged(self, model_id: str, table: Any) -> Model:
        entry, known = f"catalog entry {shown(model_id)}", [field.name for field in attrs.fields(Model)[1:]]
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{entry} must be a table of {', '.join(known)}, not {shown(table)}")
        for name in table:
            if name not in known:
                raise ConfigurationError(f"{entry} has no field {shown(name)}{nearest(str(name), known)}")
        try:
            return attrs.evolve(self.by_id.get(model_id, Model(id=model_id)), **table)
        except ConfigurationError as error:
            raise ConfigurationError(f"{entry}: {error}") from None


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
"""The six models in the gateway's documentation."""
