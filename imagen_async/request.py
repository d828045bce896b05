"""What one asks for, and every rule of the contract that can be checked before anything is sent.

A request is a plain frozen value; checking it is a separate, pure step, because the limits depend on a
catalog that belongs to the client. Nothing here knows how a request is spelled on the wire.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from imagen_async.catalog import ASPECT_RATIOS, CATALOG, DEFAULT_MODEL, OUTPUT_FORMATS, STYLES, Catalog, Model
from imagen_async.exceptions import InvalidRequestError, printable

__all__ = ["FIELDS", "Findings", "ImageRequest", "check_request", "least_tokens"]

LONGEST_TOKEN = 48
"""Characters that no single token of a subword vocabulary is longer than; see `least_tokens`."""

_MOST_BITS = 1024
"""Bits of a whole number: as far as doubles reach, which is what most readers of JSON have."""

_REPEATED = re.compile(r"(.)\1{3,}", re.DOTALL)
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _copied(value: Any) -> Any:
    # A wrong type stays as it is, for `check_request` to report.
    return dict(value) if isinstance(value, Mapping) else value


@attrs.frozen
class ImageRequest:
    """One request for images.

    Building one checks nothing; `validate` does, and the client does before it sends.

    Attributes:
        prompt: The description of the image.
        model: Any model id; the catalog's limits apply to those it knows.
        n: Images to make, 1 to 4.
        aspect_ratio: ``1:1``, ``9:16``, ``16:9``, ``3:4`` or ``4:3``.
        output_format: ``png`` or ``jpeg``.
        style: Only for ``imagegeneration@002``.
        id: Your name for the job, any text; file names and metadata carry it.
        extra: Further body fields, passed through untouched.

    Example:
        >>> ImageRequest("A red fox", n=2, aspect_ratio="16:9").n
        2
    """

    prompt: str
    model: str = attrs.field(default=DEFAULT_MODEL, kw_only=True)
    n: int = attrs.field(default=1, kw_only=True)
    aspect_ratio: str = attrs.field(default="1:1", kw_only=True)
    output_format: str = attrs.field(default="png", kw_only=True)
    style: str | None = attrs.field(default=None, kw_only=True)
    id: str | None = attrs.field(default=None, kw_only=True)
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied, kw_only=True, hash=False)

    def validate(self, catalog: Catalog = CATALOG) -> tuple[str, ...]:
        """Check every rule of the contract at once.

        Returns:
            Notes: what is unusual but passes, such as a model that the catalog does not know.

        Raises:
            InvalidRequestError: With every mistake of the request, not only the first.

        Example:
            >>> ImageRequest("A red fox", model="imagen-9").validate()
            ("model 'imagen-9' is not in the catalog: its limits are unknown, the gateway decides",)
        """
        findings = check_request(self, catalog)
        if findings.problems:
            raise InvalidRequestError(findings.problems)
        return findings.notes


FIELDS = tuple(field.name for field in attrs.fields(ImageRequest))
"""The names of a request's fields, in order."""

_ON_THE_WIRE = frozenset(FIELDS) - {"id", "extra"} | {"response_format"}


@attrs.frozen
class Findings:
    """What a check found: `problems` forbid sending, `notes` do not."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_NOTHING = Findings()


def check_request(request: ImageRequest, catalog: Catalog = CATALOG, *, max_n: int | None = None) -> Findings:
    """Check `request` against the contract and the catalog; pure, raises nothing.

    Args:
        request: Values may be of any type: they often come from a file.
        catalog: Whose limits apply.
        max_n: Most images to allow instead of the model's own limit, for callers that split.
    """
    model = _known(request.model, catalog)
    limit = max_n or (model.max_n if model else 4)
    if model is not None and _is_plain(request, model, limit):
        return _NOTHING
    problems: list[str] = []
    notes: list[str] = []
    for rule in _RULES:
        for finding in rule(request, model):
            (notes if isinstance(finding, _Note) else problems).append(finding)
    problems.extend(_check_n(request.n, limit))
    return Findings(tuple(problems), tuple(notes))


def _is_plain(request: Any, model: Model, limit: int) -> bool:
    """Whether no rule can find anything, as with nearly every row of a long file; what is not plain may be good, too.

    The rules take five times as long, and a row is checked up to three times on its way.
    """
    prompt, name, extra = request.prompt, request.id, request.extra
    return (
        type(prompt) is str
        and prompt.isascii()
        and len(prompt) <= (model.prompt_tokens or 0)
        and not prompt.isspace()
        and prompt != ""
        and type(request.n) is int
        and 1 <= request.n <= limit
        and type(request.aspect_ratio) is str
        and request.aspect_ratio in model.aspect_ratios
        and type(request.output_format) is str
        and request.output_format in model.output_formats
        and request.style is None
        and (name is None or (type(name) is str and name != ""))
        and type(extra) is dict
        and not extra
    )


def _known(model_id: object, catalog: Catalog) -> Model | None:
    return catalog.get(model_id) if isinstance(model_id, str) else None


class _Note(str):
    """A finding that does not forbid."""

    __slots__ = ()


def _check_prompt(request: Any, model: Model | None) -> Iterator[str]:
    prompt = request.prompt
    if not isinstance(prompt, str):
        yield f"prompt must be text, not {type(prompt).__name__}"
        return
    if not prompt.strip():
        yield "prompt is empty"
        return
    if _SURROGATE.search(prompt):
        yield "prompt holds a lone surrogate, which no UTF-8 body can carry"
    limit = model.prompt_tokens if model else None
    # A token is a character at least, so a short prompt need not be counted.
    if limit is not None and len(prompt) > limit and (least := least_tokens(prompt)) > limit:
        yield f"prompt is too long: at least {least} tokens, {request.model} takes {limit}"
    if not prompt.isascii() and _mostly_han(prompt):
        yield _Note("the prompt is mostly Chinese, which these models support poorly: English is recommended")


def _check_model(request: Any, model: Model | None) -> Iterator[str]:
    if not isinstance(request.model, str) or not request.model.strip():
        yield "model must be a model id, such as " + DEFAULT_MODEL
    elif _SURROGATE.search(request.model):
        yield "model holds a lone surrogate, which no UTF-8 body can carry"
    elif model is None:
        yield _Note(f"model {_shown(request.model)} is not in the catalog: its limits are unknown, the gateway decides")


def _check_n(n: object, limit: int) -> Iterator[str]:
    if not isinstance(n, int) or isinstance(n, bool):
        yield f"n must be a whole number, not {_shown(n)}"
    elif not 1 <= n <= limit:
        yield f"n must be 1 to {limit}, not {_shown(n)}"


def _check_aspect_ratio(request: Any, model: Model | None) -> Iterator[str]:
    yield from _one_of(
        "aspect_ratio", request.aspect_ratio, tuple(model.aspect_ratios if model else ASPECT_RATIOS), model
    )


def _check_output_format(request: Any, model: Model | None) -> Iterator[str]:
    yield from _one_of("output_format", request.output_format, model.output_formats if model else OUTPUT_FORMATS, model)


def _check_style(request: Any, model: Model | None) -> Iterator[str]:
    if request.style is None:
        return
    if model is not None and not model.styles:
        yield f"style is not for {request.model}: leave it out, or use imagegeneration@002"
    else:
        yield from _one_of("style", request.style, model.styles if model else STYLES, model)


def _check_id(request: Any, _: Model | None) -> Iterator[str]:
    if request.id is not None and not isinstance(request.id, str):
        yield f"id must be text, not {type(request.id).__name__}"
    elif request.id == "":
        yield "id is empty: leave it out, or name the job"


def _check_extra(request: Any, _: Model | None) -> Iterator[str]:
    extra = request.extra
    if not isinstance(extra, Mapping):
        yield f"extra must be a table of body fields, not {type(extra).__name__}"
        return
    if bad := sorted(_shown(key) for key in extra if not isinstance(key, str)):
        yield f"extra has field names that are not text: {', '.join(bad)}"
        return
    if doubled := sorted(_ON_THE_WIRE.intersection(extra)):
        yield f"extra repeats fields that have a place of their own: {', '.join(doubled)}"
    if (fault := _json_fault(extra)) is not None:
        yield f"extra cannot be sent as JSON: {fault}"


_RULES: tuple[Callable[[Any, Model | None], Iterator[str]], ...] = (
    _check_prompt,
    _check_model,
    _check_aspect_ratio,
    _check_output_format,
    _check_style,
    _check_id,
    _check_extra,
)


def _one_of(field: str, value: object, allowed: tuple[str, ...], model: Model | None) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{field} must be text, not {type(value).__name__}"
    elif _SURROGATE.search(value):
        yield f"{field} holds a lone surrogate, which no UTF-8 body can carry"
    elif value not in allowed:
        text = f"{field} {_shown(value)} is not one of {', '.join(allowed)}"
        yield text if model else _Note(text + ": the model is not in the catalog, the gateway decides")


def _json_fault(value: object, depth: int = 0) -> str | None:
    """Say why `value` has no JSON form that every reader understands, or None."""
    if depth > 32:  # noqa: PLR2004 - deeper than any body field; keeps the check's own stack bounded
        return "it is nested too deeply"
    if value is None or isinstance(value, str | int | float):
        return _leaf_fault(value)
    if not isinstance(value, Mapping | list | tuple):
        return f"a {type(value).__name__} has no JSON form"
    if isinstance(value, Mapping) and any(not isinstance(key, str) for key in value):
        return "it holds a table with names that are not text"
    parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
    return next((fault for part in parts if (fault := _json_fault(part, depth + 1)) is not None), None)


def _leaf_fault(value: object) -> str | None:
    if isinstance(value, str) and _SURROGATE.search(value):
        return "it holds a lone surrogate"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a JSON number"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return "it holds a whole number beyond what readers of JSON take"
    return None


def least_tokens(prompt: str) -> int:
    """Estimate the fewest tokens that `prompt` can come to: a lower bound, never too high.

    Google does not publish the models' tokenizer. Subword vocabularies (SentencePiece, BPE, WordPiece) do not
    join words across white space, so a word is at least one token; no vocabulary in use has entries longer
    than 48 characters other than runs of one repeated character, so a longer word is at least one token per
    48 characters, runs counted once. A prompt that is refused therefore cannot fit; one that passes may still
    be too long, and the gateway decides.

    Example:
        >>> least_tokens("a red fox")
        3
    """
    return sum(max(1, -(-len(_REPEATED.sub(r"\1", word)) // LONGEST_TOKEN)) for word in prompt.split())


def _mostly_han(prompt: str) -> bool:
    letters = sum(c.isalpha() for c in prompt)
    return letters > 0 and 2 * len(_HAN.findall(prompt)) > letters


def _shown(value: object) -> str:
    try:
        return printable(repr(value), 80)
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        return f"<{type(value).__name__} too large to show>"
