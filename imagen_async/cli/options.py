"""Options that several commands share: request fields, the gateway, its key and the catalog.

Every mistake is a `ConfigurationError` that names the option. The command line's parser reads the annotations at run
time. The key is never an option's value: it would appear in the shell's history and in every process list.
"""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Group, Parameter, Token

from imagen_async._secrets import Secret
from imagen_async.catalog import CATALOG, Catalog
from imagen_async.exceptions import ConfigurationError, printable

__all__ = [
    "NO_FIELDS",
    "NO_GATEWAY",
    "GatewayOptions",
    "RequestOptions",
    "Whole",
    "read_catalog",
    "read_key",
    "refuse_option",
]

_REQUEST = Group.create_ordered("Images")
_GATEWAY = Group.create_ordered("Gateway")

_LONGEST_KEY_FILE = 4096


def _whole(_type: object, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


Whole = Annotated[int, Parameter(converter=_whole)]
"""A whole number; the command line's parser would silently round 2.5, and images cost money."""


@Parameter(name="*", group=_REQUEST)
@attrs.frozen(kw_only=True)
class RequestOptions:
    """Fields of a request.

    Attributes:
        model: Model id; see `imagen-async models`. By default imagen-3.0-generate-001.
        n: Images for each prompt, by default 1.
        aspect_ratio: 1:1 (the default), 9:16, 16:9, 3:4 or 4:3.
        output_format: png (the default) or jpeg.
        style: Only for imagegeneration@002: photograph, digital_art, landscape, sketch, watercolor, cyberpunk, pop_art.
    """

    model: str | None = None
    n: Annotated[Whole | None, Parameter(name=("-n", "--n"))] = None
    aspect_ratio: str | None = None
    output_format: str | None = None
    style: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the fields that were given."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}


@Parameter(name="*", group=_GATEWAY)
@attrs.frozen(kw_only=True)
class GatewayOptions:
    """The gateway, and what is known of it.

    Attributes:
        base_url: Its URL; by default IMAGEN_BASE_URL, or the documented gateway.
        api_key_file: File that holds the key, instead of IMAGEN_API_KEY.
        catalog: TOML file of models that extend or correct the known ones, a table for each id.
        no_response_format: Leave response_format out of requests: some models refuse it.
        allow_http: Send the key unencrypted to another machine.
    """

    base_url: str | None = None
    api_key_file: Path | None = None
    catalog: Path | None = None
    no_response_format: bool = False
    allow_http: bool = False


NO_FIELDS = RequestOptions()
NO_GATEWAY = GatewayOptions()


def refuse_option(_type: object, value: object) -> None:
    """Refuse a path that begins with a hyphen, unless it is the hyphen alone: it is a misspelled option.

    Raises:
        ValueError: The path begins with a hyphen; the command line's parser adds the option's name.
    """
    text = str(value)
    if text.startswith("-") and text != "-":
        raise ValueError(f"no such option; a file of that name is ./{text}")


def read_catalog(path: Path | None) -> Catalog:
    """Return the known models, extended by those of a TOML file.

    Raises:
        ConfigurationError: The file cannot be read, or is not a catalog.
    """
    if path is None:
        return CATALOG
    name = printable(str(path))
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"--catalog {name} cannot be read: {_reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--catalog {name} is not TOML: {printable(str(error), 200)}") from None
    try:
        return CATALOG.extended_from(tables)
    except ConfigurationError as error:
        hint = 'an id with a dot needs quotes, as in ["imagen-3.0-generate-002"]'
        raise ConfigurationError(f"--catalog {name}: {error.message} ({hint})") from None


def read_key(path: Path | None) -> Secret:
    """Return the key from a file or from the environment.

    Raises:
        ConfigurationError: There is none, or the file cannot be read.
    """
    if path is None:
        if key := Secret(os.environ.get("IMAGEN_API_KEY", "")):
            return key
        raise ConfigurationError(
            "no API key: set IMAGEN_API_KEY, name a file with --api-key-file, or try --sandbox, which needs none"
        )
    # The path is not shown: it may be the key itself, typed instead of the file's name.
    key, trouble = _read_key_file(path)
    if not trouble and not key.isascii():
        trouble = "holds characters that are not allowed in a key"
    if trouble or not key:
        raise ConfigurationError(f"the file of --api-key-file {trouble or 'is empty'}")
    return key


def _read_key_file(path: Path) -> tuple[Secret, str]:
    """Return the key, and why it cannot be read, or an empty text."""
    try:
        with path.open("rb") as file:
            # Latin-1 accepts every byte; a decoding error would quote the key's.
            return Secret(file.read(_LONGEST_KEY_FILE).decode("latin-1").strip(" \t\r\n")), ""
    except (OSError, ValueError) as error:  # a path with a NUL raises ValueError
        return Secret(""), f"cannot be read: {_reason(error)}"


def _reason(error: OSError | ValueError) -> str:
    return printable(getattr(error, "strerror", None) or str(error), 200)
