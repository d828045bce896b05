"""Lists the faults of a sandbox gateway, and draws which request meets which.

A draw depends on the seed, the request's body and how often that body was seen before, so that a run repeats in
whatever order requests arrive.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FAULTS", "WRAPPINGS", "Draw", "Fault", "FaultPlan"]

BODIES_REMEMBERED = 100_000
"""Number of bodies whose count is kept, the most recent; bounds the memory of a long run."""


@attrs.frozen
class Fault:
    """One kind of fault.

    Attributes:
        name: Its name in options and in the ledger.
        about: What the client receives.
        billed: ``"none"``; ``"asked"``: all ``n`` images, sent or not; ``"sent"``: the images in the response.
        works: Whether the latency passes first; otherwise the request is refused immediately.
    """

    name: str
    about: str
    billed: Literal["none", "asked", "sent"]
    works: bool = True


WRAPPINGS: Mapping[str, str] = MappingProxyType(
    {
        "data-prefix": "`data:image/png;base64,` before the base64",
        "newlines": "an escaped newline after every 76 characters of base64",
        "url-safe": "the URL-safe base64 alphabet",
        "no-padding": "base64 without its closing `=`",
        "escaped": "`\\/` and `\\u00xx` escapes inside the base64",
        "bom": "a byte-order mark before the JSON",
        "comments": "lines such as `: PROCESSING` before the JSON",
        "white-space": "white space around and inside the JSON",
        "data-first": "`data` before `created`",
        "unknown-keys": "keys that the contract does not name, nulls among them",
        "gzip": "Content-Encoding: gzip, asked for or not",
    }
)
"""Harmless variants of a valid response; each is a fault ``odd-wrapping:<name>``, and ``odd-wrapping`` draws one."""

_TABLE = (
    # Refused immediately: not processed, not billed.
    Fault("429", "429, with Retry-After if that option is set", "none", works=False),
    Fault("400-blocked", "400, the prompt is blocked, with support codes (Google's shape)", "none", works=False),
    Fault("401", "401, the key has expired", "none", works=False),
    Fault("403", "403, the quota is used up", "none", works=False),
    Fault("503", "503, overloaded", "none", works=False),
    Fault("503-model-not-found", "503 with code model_not_found: permanent", "none", works=False),
    # Failed while processing. A crashed worker bills nothing; a lost response is billed.
    Fault("500", "500 from a worker that crashed", "none"),
    Fault("502-html", "502, an nginx page: the upstream could not be reached", "none"),
    Fault("504", "504, the images were made and the response lost", "asked"),
    Fault("524-html", "524, a CDN's page: it stopped waiting, the images were made", "asked"),
    # The connection breaks after processing.
    Fault("disconnect", "the connection closes before any byte of the response", "asked"),
    Fault("truncate", "half of the promised Content-Length, then the connection closes", "asked"),
    Fault("truncate-close", "no length, Connection: close, half of the body", "asked"),
    Fault("truncate-chunked", "chunked, half of the body, no last chunk", "asked"),
    Fault("slow", "a complete response, sent slowly", "asked"),
    Fault("stall", "headers, then silence, then the connection closes", "asked"),
    # Status 200 without the images.
    Fault("error-in-200", "200 with an error object", "none"),
    Fault("html-in-200", "200 with an HTML page", "none"),
    Fault("empty-200", "200 with empty data", "none"),
    Fault("filtered", "200, all images filtered, in one of the shapes seen", "sent"),
    Fault("short", "200 with fewer images than asked for (none for n = 1)", "sent"),
    Fault("null-image", "200, the last image is null", "sent"),
    # Status 200 with invalid images. Where one image is invalid, it is the last.
    Fault("corrupt-base64", "the last image's base64 contains invalid characters", "asked"),
    Fault("url-in-200", "url instead of b64_json", "asked"),
    Fault("data-url-in-200", "url with a data: URL instead of b64_json", "asked"),
    Fault("wrong-format", "JPEG where PNG was asked for, and the reverse", "asked"),
    Fault("webp", "WebP, whatever was asked for", "asked"),
    Fault("not-an-image", "the last image's base64 is of a text", "asked"),
    Fault("no-iend", "the last image lacks its end: PNG without IEND, JPEG without EOI", "asked"),
    # A valid response in an unusual form.
    Fault("odd-wrapping", "one of the odd-wrapping variants, drawn", "asked"),
    *(Fault(f"odd-wrapping:{name}", about, "asked") for name, about in WRAPPINGS.items()),
)

FAULTS: Mapping[str, Fault] = MappingProxyType({fault.name: fault for fault in _TABLE})
"""Every fault by name."""


@attrs.frozen
class Draw:
    """The draw for one request.

    Attributes:
        fault: The fault it meets, or None.
        chance: Random numbers for its other draws, as repeatable as this one.
    """

    fault: Fault | None
    chance: random.Random = attrs.field(eq=False)


class FaultPlan:
    """Draws which request meets which fault.

    Args:
        rates: Share of requests, 0 to 1, by fault name.
        seed: Seed of the draws.
        per_body: How often a body can meet a fault; None for always.

    Example:
        >>> plan = FaultPlan({"500": 1.0}, per_body=1)
        >>> [draw.fault and draw.fault.name for draw in (plan.draw(b"body"), plan.draw(b"body"))]
        ['500', None]
    """

    def __init__(self, rates: Mapping[str, float], *, seed: int = 0, per_body: int | None = None) -> None:
        self._rates = sorted(rates.items())
        self._seed = seed
        self._per_body = per_body
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def draw(self, digest: bytes) -> Draw:
        """Draw for the next request whose body has this digest."""
        nth = self._count(digest)
        chance = random.Random(f"{self._seed}:{digest.hex()}:{nth}")
        point = chance.random()
        if self._per_body is not None and nth >= self._per_body:
            return Draw(None, chance)
        return Draw(self._met_at(point, chance), chance)

    def _met_at(self, point: float, chance: random.Random) -> Fault | None:
        for name, rate in self._rates:
            if point < rate:
                return FAULTS[_drawn_wrapping(chance) if name == "odd-wrapping" else name]
            point -= rate
        return None

    def _count(self, digest: bytes) -> int:
        nth = self._seen.pop(digest, 0)
        self._seen[digest] = nth + 1
        if len(self._seen) > BODIES_REMEMBERED:
            self._seen.popitem(last=False)
        return nth


def _drawn_wrapping(chance: random.Random) -> str:
    return f"odd-wrapping:{chance.choice(sorted(WRAPPINGS))}"
