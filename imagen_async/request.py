"""A request for images, and every rule of the API that can be checked before anything is sent.

A request is a plain frozen value. Checking it is a separate, pure step, because the limits depend on the client's
catalog.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypedDict

import attrs

from imagen_async._validation import nearest, shown
from imagen_async.catalog import ASPECT_RATIOS, CATALOG, DEFAULT_MODEL, OUTPUT_FORMATS, STYLES, Catalog, Model
from imagen_async.exceptions import ConfigurationError, InvalidRequestError

__all__ = ["FIELDS", "Findings", "ImageRequest", "RequestFields", "check_request", "least_tokens", "request_of"]

AspectRatio = Literal["1:1", "9:16", "16:9", "3:4", "4:3"]
OutputFormat = Literal["png", "jpeg"]
Style = Literal["photograph", "digital_art", "landscape", "sketch", "watercolor", "cyberpunk", "pop_art"]

LONGEST_TOKEN = 48
"""Characters that no single token of a subword vocabulary exceeds; see `least_tokens`."""

_MOST_BITS = 1024
"""Bits of a whole number in JSON: most readers parse numbers as doubles."""

_REPEATED = re.compile(r"(.)\1{3,}", re.DOTALL)
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class RequestFields(TypedDict, total=False):
    """The fields of `ImageRequest` that `ImagenClient.generate` accepts as keywords."""

    model: str
    n: int
    aspect_ratio: AspectRatio | str
    output_format: OutputFormat | str
    style: Style | str | None
    id: str | None
    extra: Mapping[str, Any]


def _copied(value: Any) -> Any:
    # A wrong type stays as it is, for `check_request` to report.
    return dict(value) if isinstance(value, Mapping) else value


@attrs.frozen
class ImageRequest:
    """One request for images.

    Its values are checked by `validate`, and by the client before it sends, not when it is created.

    Attributes:
        prompt: The description of the image.
        model: Any model id; the catalog's limits apply to the models that it contains.
        n: Number of images, 1 to 4.
        aspect_ratio: ``1:1``, ``9:16``, ``16:9``, ``3:4`` or ``4:3``.
        output_format: ``png`` or ``jpeg``.
        style: Only for ``imagegeneration@002``.
        id: Your name for the job, any text; file names and metadata contain it.
        extra: Further fields of the request's body, sent unchanged.

    Example:
        >>> ImageRequest("A red fox", n=2, aspect_ratio="16:9").n
        2
    """

    prompt: str
    model: str = attrs.field(default=DEFAULT_MODEL, kw_only=True)
    n: int = attrs.field(default=1, kw_only=True)
    aspect_ratio: AspectRatio | str = attrs.field(default="1:1", kw_only=True)
    output_format: OutputFormat | str = attrs.field(default="png", kw_only=True)
    style: Style | str | None = attrs.field(default=None, kw_only=True)
    id: str | None = attrs.field(default=None, kw_only=True)
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied, kw_only=True, hash=False)

    def validate(self, catalog: Catalog = CATALOG) -> tuple[str, ...]:
        """Check every rule of the API.

        Args:
            catalog: The known models and their limits.

        Returns:
            Notes on what is unusual but can be sent, such as a model that is not in the catalog.

        Raises:
            InvalidRequestError: The request breaks rules; the error lists all of them.

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

_IN_THE_BODY = frozenset(FIELDS) - {"id", "extra"} | {"response_format"}


def request_of(prompt: str | ImageRequest, fields: Mapping[str, Any]) -> ImageRequest:
    """Return the request that a call of `ImagenClient.generate` means.

    Raises:
        ConfigurationError: A field is unknown, or there are fields beside a whole request.

    Example:
        >>> request_of("A red fox", {"aspect_ration": "16:9"})
        Traceback (most recent call last):
        imagen_async.exceptions.ConfigurationError: a request has no field aspect_ration; did you mean aspect_ratio?
    """
    for name in fields:
        if name not in FIELDS[1:]:
            raise ConfigurationError(f"a request has no field {name}{nearest(name, FIELDS[1:])}")
    if not isinstance(prompt, ImageRequest):
        return ImageRequest(prompt, **fields)
    if fields:
        named = ", ".join(sorted(fields))
        raise ConfigurationError(f"set {named} in the ImageRequest: fields beside a whole request are not accepted")
    return prompt


@attrs.frozen
class Findings:
    """The result of a check: `problems` forbid sending, `notes` do not."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Note(str):
    """A finding that does not forbid sending."""

    __slots__ = ()


_NOTHING = Findings()


def check_request(  # noqa: C901 - one branch a rule; a call a rule would cost a row of a long file five times as much
    request: ImageRequest, catalog: Catalog = CATALOG, *, max_n: int | None = None
) -> Findings:
    """Check `request` against the rules of the API and the catalog; never raises.

    Args:
        request: Its values may be of any type, because they often come from a file.
        catalog: The known models and their limits.
        max_n: Most images to allow instead of the model's own limit, for callers that split requests.
    """
    found: list[str] = []
    model_id: Any = request.model
    model = catalog.by_id.get(model_id) if isinstance(model_id, str) else None
    if model is None:
        found += _check_unknown(model_id)
    prompt: Any = request.prompt
    n: Any = request.n
    limit, longest = (max_n or model.max_n, model.prompt_tokens) if model else (max_n or 4, None)
    if not isinstance(prompt, str):
        found.append(f"prompt must be text, not {type(prompt).__name__}")
    elif not prompt.strip():
        found.append("prompt is empty")
    elif not prompt.isascii() or (longest is not None and len(prompt) > longest):
        found += _check_text(prompt, model_id, longest)
    if request.aspect_ratio not in (ratios := tuple(model.aspect_ratios if model else ASPECT_RATIOS)):
        found += _not_one_of("aspect_ratio", request.aspect_ratio, ratios, model)
    if request.output_format not in (formats := model.output_formats if model else OUTPUT_FORMATS):
        found += _not_one_of("output_format", request.output_format, formats, model)
    if request.style is not None and request.style not in (styles := model.styles if model else STYLES):
        found += _not_one_of("style", request.style, styles, model)
    if request.id is not None:
        found += _check_id(request.id)
    if request.extra or not isinstance(request.extra, Mapping):
        found += _check_extra(request.extra)
    if isinstance(n, bool) or not isinstance(n, int):
        found.append(f"n must be a whole number, not {shown(n)}")
    elif not 1 <= n <= limit:
        found.append(f"n must be 1 to {limit}, not {shown(n)}")
    if not found:
        return _NOTHING
    problems = tuple(finding for finding in found if not isinstance(finding, _Note))
    return Findings(problems, tuple(finding for finding in found if isinstance(finding, _Note)))


def _check_unknown(model: object) -> Iterator[str]:
    if not isinstance(model, str) or not model.strip():
        yield "model must be a model id, such as " + DEFAULT_MODEL
    elif _SURROGATE.search(model):
        yield "model contains a lone surrogate, which UTF-8 cannot encode"
    else:
        yield _Note(f"model {shown(model)} is not in the catalog: its limits are unknown, the gateway decides")


def _check_text(prompt: str, model: str, longest: int | None) -> Iterator[str]:
    """Check a prompt that is not plain ASCII, or may be too long: a token is one character or more."""
    if _SURROGATE.search(prompt):
        yield "prompt contains a lone surrogate, which UTF-8 cannot encode"
    if longest is not None and len(prompt) > longest and (least := least_tokens(prompt)) > longest:
        yield f"prompt is too long: at least {least} tokens, {model} accepts {longest}"
    if _mostly_han(prompt):
        yield _Note("the prompt is mostly Chinese, which these models support poorly: English is recommended")


def _check_id(name: object) -> Iterator[str]:
    if not isinstance(name, str):
        yield f"id must be text, not {type(name).__name__}"
    elif not name:
        yield "id is empty: leave it out, or name the job"


def _check_extra(extra: object) -> Iterator[str]:
    if not isinstance(extra, Mapping):
        yield f"extra must be a table of body fields, not {type(extra).__name__}"
        return
    if bad := sorted(shown(key) for key in extra if not isinstance(key, str)):
        yield f"extra has field names that are not text: {', '.join(bad)}"
        return
    if doubled := sorted(_IN_THE_BODY.intersection(extra)):
        yield f"extra repeats fields of the request: {', '.join(doubled)}"
    if (fault := _json_fault(extra)) is not None:
        yield f"extra cannot be sent as JSON: {fault}"


def _not_one_of(field: str, value: object, allowed: tuple[str, ...], model: Model | None) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{field} must be text, not {type(value).__name__}"
    elif _SURROGATE.search(value):
        yield f"{field} contains a lone surrogate, which UTF-8 cannot encode"
    elif model is None:
        yield _Note(f"{field} {shown(value)} is not one of {', '.join(allowed)}: the gateway decides")
    elif not allowed:
        yield f"{field} is not supported by {model.id}: leave it out, or choose imagegeneration@002"
    else:
        yield f"{field} {shown(value)} is not one of {', '.join(allowed)}"


def _json_fault(value: object, depth: int = 0) -> str | None:
    """Return why `value` has no JSON form that every reader understands, or None."""
    if depth > 32:  # noqa: PLR2004 - deeper than any body field, and it bounds the stack
        return "it is nested too deeply"
    if value is None or isinstance(value, str | int | float):
        return _leaf_fault(value)
    if not isinstance(value, Mapping | list | tuple):
        return f"a {type(value).__name__} has no JSON form"
    if isinstance(value, Mapping) and any(not isinstance(key, str) for key in value):
        return "it contains a table with names that are not text"
    parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
    return next((fault for part in parts if (fault := _json_fault(part, depth + 1)) is not None), None)


def _leaf_fault(value: object) -> str | None:
    if isinstance(value, str) and _SURROGATE.search(value):
        return "it contains a lone surrogate"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a JSON number"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return "it contains a whole number that is too large for most readers of JSON"
    return None


def least_tokens(prompt: str) -> int:
    """Return a lower bound of the number of tokens in `prompt`.

    The models' tokenizer is not published. Subword vocabularies (SentencePiece, BPE, WordPiece) do not join words
    across white space, so a word is at least one token; and no vocabulary in use has entries of more than 48
    characters other than runs of one repeated character, so a longer word is at least one token for each 48 characters,
    runs counted once. A prompt that exceeds a limit by this bound cannot fit; any other prompt may still be too long.

    Example:
        >>> least_tokens("a red fox")
        3
    """
    return sum(max(1, -(-len(_REPEATED.sub(r"\1", word)) // LONGEST_TOKEN)) for word in prompt.split())


def _mostly_han(prompt: str) -> bool:
    letters = sum(c.isalpha() for c in prompt)
    return letters > 0 and 2 * len(_HAN.findall(prompt)) > letters
