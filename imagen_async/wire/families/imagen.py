"""Encodes requests for the Imagen family.

With `response` and `errors`, the only module that knows the contract's field names. Source: the gateway's page on
``POST /v1/images/generations``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from imagen_async.exceptions import ProtocolError

if TYPE_CHECKING:
    from imagen_async.request import ImageRequest

__all__ = ["GENERATIONS", "MODELS", "encode_request", "read_models"]

GENERATIONS = "/images/generations"
MODELS = "/models"

# json.dumps would make an encoder for each call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=dict)


def encode_request(request: ImageRequest, *, send_response_format: bool = True) -> bytes:
    """Encode a request that has been validated; the same request always gives the same bytes.

    Args:
        request: The request.
        send_response_format: Whether to send ``response_format``; some models behind this URL refuse the field.

    Example:
        >>> from imagen_async import ImageRequest
        >>> encode_request(ImageRequest("hi"), send_response_format=False)[:45]
        b'{"model":"imagen-3.0-generate-001","prompt":"'
    """
    body: dict[str, Any] = {
        "model": request.model,
        "prompt": request.prompt,
        "n": request.n,
        "aspect_ratio": request.aspect_ratio,
        "output_format": request.output_format,
    }
    if request.style is not None:
        body["style"] = request.style
    if send_response_format:
        body["response_format"] = "b64_json"
    body.update(request.extra)
    return _ENCODER.encode(body).encode()


def read_models(body: bytes) -> tuple[str, ...]:
    """Return the ids in the response to ``GET /v1/models``.

    Raises:
        ProtocolError: The response is not a list of models.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise ProtocolError("json", "the response is not a list of models")
    return tuple(entry["id"] for entry in data if isinstance(entry, dict) and isinstance(entry.get("id"), str))
