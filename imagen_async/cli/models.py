"""``imagen-async models``: the models of the catalog, or those that the gateway offers.

The command line's parser reads the annotations at run time.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from imagen_async.cli.console import write_json, write_result
from imagen_async.cli.exit_codes import Exit
from imagen_async.cli.options import NO_GATEWAY, GatewayOptions, read_catalog
from imagen_async.exceptions import printable

if TYPE_CHECKING:
    from imagen_async.catalog import Catalog, Model

__all__ = ["catalog_text", "models", "remote_text"]

_UNKNOWN = "?"


def models(
    *,
    remote: bool = False,
    json: bool = False,
    gateway: GatewayOptions = NO_GATEWAY,
) -> int:
    """Show the known models: limits, sizes and list prices.

    Args:
        remote: Ask the gateway which models it has: tests the key, costs nothing.
        json: Print one JSON object.
        gateway: The gateway's options.
    """
    catalog = read_catalog(gateway.catalog)
    if not remote:
        _show([_record(model) for model in catalog.values()] if json else catalog_text(catalog))
        return Exit.SUCCEEDED
    ids = asyncio.run(_ask(gateway, catalog))
    _show([{"id": name, "known": name in catalog} for name in ids] if json else remote_text(ids, catalog))
    return Exit.SUCCEEDED


async def _ask(gateway: GatewayOptions, catalog: "Catalog") -> tuple[str, ...]:
    from imagen_async.cli.connect import connected

    async with connected(gateway, None, catalog=catalog) as client:
        return await client.list_models()


def _show(models: str | list[dict[str, Any]]) -> None:
    if isinstance(models, str):
        write_result(models)
    else:
        write_json({"models": models})


def _record(model: "Model") -> dict[str, Any]:
    return {
        "id": model.id,
        "prompt_tokens": model.prompt_tokens,
        "max_n": model.max_n,
        "aspect_ratios": {ratio: list(pixels) for ratio, pixels in model.aspect_ratios.items()},
        "output_formats": list(model.output_formats),
        "styles": list(model.styles),
        "price_usd": model.price_usd,
    }


def catalog_text(catalog: "Catalog") -> str:
    """Return the catalog as a table, with the pixel sizes of the ratios below it."""
    rows: list[tuple[str, ...]] = [("model", "tokens", "n", "USD an image", "formats", "styles")]
    rows += [_row(model) for model in catalog.values()]
    sizes = sorted({(ratio, *pixels) for model in catalog.values() for ratio, pixels in model.aspect_ratios.items()})
    ratios: list[tuple[str, ...]] = [
        ("ratio", "pixels"),
        *((ratio, f"{width} × {height}") for ratio, width, height in sizes),
    ]
    notes = "Limits are checked before sending; other model ids are sent as they are, and the gateway decides."
    return "\n".join([*_aligned(rows), "", *_aligned(ratios), "", *_styles(catalog), notes])


def _row(model: "Model") -> tuple[str, ...]:
    return (
        printable(model.id, 60),
        _UNKNOWN if model.prompt_tokens is None else str(model.prompt_tokens),
        f"1–{model.max_n}",
        _UNKNOWN if model.price_usd is None else f"{model.price_usd:.2f}",
        printable(", ".join(model.output_formats), 40),
        f"{len(model.styles)}, see below" if model.styles else "–",
    )


def _styles(catalog: "Catalog") -> Iterable[str]:
    for model in catalog.values():
        if model.styles:
            yield printable(f"styles of {model.id}: {', '.join(model.styles)}", 400)
            yield ""


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def remote_text(ids: Iterable[str], catalog: "Catalog") -> str:
    """Return the gateway's models, a line each; those that the catalog does not know are marked."""
    return "\n".join(
        printable(name, 200) + ("" if name in catalog else "  (not in the catalog: limits unknown)") for name in ids
    )
