"""Checks requests against the gateway's contract.

Written from the gateway's documentation alone, independently of the client's checks, so that the two can disagree and a
test can notice. Headers and a body become an `Order` or a `Refusal`.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async.catalog import ASPECT_RATIOS, CATALOG, OUTPUT_FORMATS, STYLES
from imagen_async.exceptions import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

__all__ = ["Order", "Refusal", "read_order", "refuse_content_type", "refuse_key"]

MOST_IMAGES = 4
STYLED_MODEL = "imagegeneration@002"


@attrs.frozen(kw_only=True)
class Order:
    """The fields of a valid request, defaults filled in."""

    model: str
    prompt: str
    n: int = 1
    aspect_ratio: str = "1:1"
    output_format: str = "png"
    style: str | None = None


@attrs.frozen(kw_only=True)
class Refusal:
    """Why a request is refused, as an error of OpenAI's form."""

    status: int = 400
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None

    def body(self) -> bytes:
        """Return the body of the response."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def refuse_key(authorization: str | None, api_key: str) -> Refusal | None:
    """Return why an ``Authorization`` header is not accepted, or None."""
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        return Refusal(status=401, message="You didn't provide an API key: send Authorization: Bearer <key>.")
    given = key.strip().encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(given, api_key.encode()):
        return Refusal(status=401, message="Incorrect API key provided.", code="invalid_api_key")
    return None


def refuse_content_type(content_type: str) -> Refusal | None:
    """Return why a body of a media type is not accepted, or None."""
    if content_type.lower() == "application/json":
        return None
    return Refusal(message=f"Content-Type must be application/json, not {_shown(content_type)}.")


def read_order(body: bytes, models: Collection[str], *, unknown_model_status: int = 404) -> Order | Refusal:
    """Parse a request's body, and check it against every rule of the contract; the first violation is returned.

    Args:
        body: The body as received.
        models: The model ids that exist.
        unknown_model_status: Status for any other model id.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        return Refusal(message=f"The body is not JSON: {printable(str(error), 100)}.")
    if not isinstance(fields, dict):
        return Refusal(message="The body must be a JSON object.")
    # As in OpenAI's API, an optional field that is null counts as missing.
    fields = {name: value for name, value in fields.items() if value is not None}
    for rule in _RULES:
        for refusal in rule(fields):
            return refusal
    if fields["model"] not in models:
        return _no_such_model(fields["model"], unknown_model_status)
    known = {field.name for field in attrs.fields(Order)}
    return Order(**{name: value for name, value in fields.items() if name in known})


def _no_such_model(model: str, status: int) -> Refusal:
    if status == 404:  # noqa: PLR2004 - the status itself
        text = f"The model {_shown(model)} does not exist or you do not have access to it."
        return Refusal(status=404, message=text, param="model", code="model_not_found")
    text = f"No available channel for model {printable(model, 80)} under group default (distributor)."
    return Refusal(status=status, message=text, type="new_api_error", code="model_not_found")


def _wrong(param: str, message: str, code: str = "invalid_value") -> Refusal:
    return Refusal(message=message, param=param, code=code)


def _model_is_named(fields: Mapping[str, Any]) -> Iterator[Refusal]:
    if "model" not in fields:
        yield _wrong("model", "Missing required parameter: 'model'.", "missing_required_parameter")
    elif not isinstance(fields["model"], str) or not fields["model"]:
        yield _wrong("model", f"model must be a string, not {_shown(fields['model'])}.", "invalid_type")


def _prompt_is_text(fields: Mapping[str, Any]) -> Iterator[Refusal]:
    prompt = fields.get("prompt")
    if prompt is None:
        yield _wrong("prompt", "Missing required parameter: 'prompt'.", "missing_required_parameter")
    elif not isinstance(prompt, str):
        yield _wrong("prompt", f"prompt must be a string, not {_shown(prompt)}.", "invalid_type")
    elif not prompt.strip():
        yield _wrong("prompt", "prompt must not be empty.")
    elif any("\ud800" <= character <= "\udfff" for character in prompt):
        yield _wrong("prompt", "prompt holds a lone surrogate.")


def _prompt_fits(fields: Mapping[str, Any]) -> Iterator[Refusal]:
    model = CATALOG.get(fields["model"])
    limit = model.prompt_tokens if model else None
    # A word is at least one token, so this many words cannot fit, whatever the tokenizer.
    if limit is not None and (words := len(fields["prompt"].split())) > limit:
        yield _wrong("prompt", f"prompt has {words} words or more tokens, the limit is {limit} tokens.")


def _n_is_allowed(fields: Mapping[str, Any]) -> Iterator[Refusal]:
    n = fields.get("n", 1)
    if isinstance(n, bool) or not isinstance(n, int):
        yield _wrong("n", f"n must be an integer, not {_shown(n)}.", "invalid_type")
    elif not 1 <= n <= MOST_IMAGES:
        yield _wrong("n", f"n must be 1 to {MOST_IMAGES}, not {n}.")


def _choices_are_known(fields: Mapping[str, Any]) -> Iterator[Refusal]:
    for name, allowed in _CHOICES.items():
        if name in fields and fields[name] not in allowed:
            yield _wrong(name, f"{name} must be one of {', '.join(allowed)}, not {_shown(fields[name])}.")


def _style_fits_model(fields: Mapping[str, Any]) -> Iterator[Refusal]:
    if "style" in fields and fields["model"] != STYLED_MODEL:
        yield _wrong("style", f"style is only for {STYLED_MODEL}.")


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "aspect_ratio": tuple(ASPECT_RATIOS),
    "output_format": OUTPUT_FORMATS,
    "style": STYLES,
    "response_format": ("b64_json",),
}

_RULES: tuple[Callable[[Mapping[str, Any]], Iterator[Refusal]], ...] = (
    _model_is_named,
    _prompt_is_text,
    _prompt_fits,
    _n_is_allowed,
    _choices_are_known,
    _style_fits_model,
)


def _shown(value: object) -> str:
    return printable(repr(value), 80)
