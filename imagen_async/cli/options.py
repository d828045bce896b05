"""Options that several commands share, and what they come to: request fields, a catalog, a sandbox's behaviour.

Values of options become typed values here, and every mistake is a `ConfigurationError` that names the option. The
command line's parser reads the annotations at run time. The key is never an option's value: it would be in the shell's
history and in every process list.
"""

import os
import tomllib
from collections.abc import Iterable, Sequence
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
    "NO_SANDBOX",
    "GatewayOptions",
    "RequestOptions",
    "SandboxRun",
    "Whole",
    "fault_rates",
    "latency_range",
    "read_catalog",
    "read_key",
    "refuse_option",
]

_REQUEST = Group.create_ordered("Images")
_GATEWAY = Group.create_ordered("Gateway")
_SANDBOX = Group.create_ordered("Sandbox: no key, no network, made-up images")

_LONGEST_KEY_FILE = 4096
_PERCENT = 100


def _whole(_type: object, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


Whole = Annotated[int, Parameter(converter=_whole)]
"""A whole number; the command line's parser would round 2.5 without a word, and images cost money."""


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
    """Which gateway, and what is known of it.

    Attributes:
        base_url: Its URL; by default IMAGEN_BASE_URL, or the documented gateway.
        api_key_file: File that holds the key, instead of IMAGEN_API_KEY.
        catalog: TOML file of models that add to or correct the known ones, a table for each id.
        no_response_format: Leave response_format out of requests: some models refuse it.
        allow_http: Let the key travel unencrypted to another machine.
    """

    base_url: str | None = None
    api_key_file: Path | None = None
    catalog: Path | None = None
    no_response_format: bool = False
    allow_http: bool = False


@Parameter(name="*", group=_SANDBOX)
@attrs.frozen(kw_only=True)
class SandboxRun:
    """The sandbox that runs inside the command.

    Attributes:
        sandbox: Use the embedded gateway: costs nothing, needs no key.
        sandbox_fault: KIND=RATE, such as 429=0.1 or 500=5%; may be repeated. `imagen-async sandbox --list-faults`.
        sandbox_seed: Where its draws start: the same seed, the same faults.
        sandbox_rpm: Requests a minute it admits.
        sandbox_latency: Seconds a request takes: S, or LOW-HIGH.
        sandbox_ledger: File to which it writes what it billed.
        sandbox_tiny: Make images of a few hundred bytes.
    """

    sandbox: bool = False
    sandbox_fault: Annotated[tuple[str, ...], Parameter(metavar="KIND=RATE")] = ()
    sandbox_seed: Whole | None = None
    sandbox_rpm: Whole | None = None
    sandbox_latency: Annotated[str | None, Parameter(metavar="S")] = None
    sandbox_ledger: Path | None = None
    sandbox_tiny: bool = False

    def keywords(self) -> dict[str, Any]:
        """Return the options of a `SandboxGateway`; only if there is to be one.

        Raises:
            ConfigurationError: A value does not fit.
        """
        given = {
            "faults": fault_rates(self.sandbox_fault, option="--sandbox-fault"),
            "seed": self.sandbox_seed or 0,
            "rpm": self.sandbox_rpm,
            "ledger": self.sandbox_ledger,
            "images": "tiny" if self.sandbox_tiny else "realistic",
        }
        if self.sandbox_latency is not None:
            given["latency"] = latency_range(self.sandbox_latency, option="--sandbox-latency")
        return given

    def refuse_without_sandbox(self) -> None:
        """Do nothing if the options make sense together.

        Raises:
            ConfigurationError: There is an option of the sandbox and no sandbox.
        """
        if not self.sandbox and (named := [name for name in _names(self) if getattr(self, name) != _default(name)]):
            options = ", ".join("--" + name.replace("_", "-") for name in named)
            raise ConfigurationError(f"{options}: only together with --sandbox")


NO_FIELDS = RequestOptions()
NO_GATEWAY = GatewayOptions()
NO_SANDBOX = SandboxRun()


def _names(options: SandboxRun) -> Iterable[str]:
    return (field.name for field in attrs.fields(type(options)))


def _default(name: str) -> object:
    return getattr(NO_SANDBOX, name)


def refuse_option(_type: object, value: object) -> None:
    """Refuse a path that begins with a hyphen, other than the hyphen itself: it is a misspelled option.

    Raises:
        ValueError: It is one; the command line's parser makes a message of it.
    """
    text = str(value)
    if text.startswith("-") and text != "-":
        raise ValueError(f"no such option; a file of that name is ./{text}")


def read_catalog(path: Path | None) -> Catalog:
    """Return the known models, extended by those of a TOML file.

    Raises:
        ConfigurationError: The file cannot be read or does not fit.
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
        hint = 'an id that holds a dot needs quotes, as in ["imagen-3.0-generate-002"]'
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
            "there is no API key: set IMAGEN_API_KEY, name a file with --api-key-file, "
            "or try --sandbox, which needs none"
        )
    # The path is not shown: it may be the key itself, given in the place of the file.
    key, trouble = _read_key_file(path)
    if not trouble and not key.isascii():
        trouble = "holds characters that no key has"
    if trouble or not key:
        raise ConfigurationError(f"the file of --api-key-file {trouble or 'is empty'}")
    return key


def _read_key_file(path: Path) -> tuple[Secret, str]:
    """Read a key, or say why it cannot be read."""
    try:
        with path.open("rb") as file:
            # Latin-1 takes any byte: an error of decoding would quote them.
            return Secret(file.read(_LONGEST_KEY_FILE).decode("latin-1").strip(" \t\r\n")), ""
    except (OSError, ValueError) as error:  # a ValueError is a path with a NUL
        return Secret(""), f"cannot be read: {_reason(error)}"


def _reason(error: OSError | ValueError) -> str:
    return printable(getattr(error, "strerror", None) or str(error), 200)


def fault_rates(texts: Iterable[str], *, option: str) -> dict[str, float]:
    """Read shares of faults.

    Args:
        texts: Each ``KIND=RATE``; the rate is from 0 to 1, or a percentage.
        option: What the message calls it.

    Raises:
        ConfigurationError: One does not read so, or comes twice.

    Example:
        >>> fault_rates(["429=0.1", "500=5%"], option="--fault")
        {'429': 0.1, '500': 0.05}
    """
    rates: dict[str, float] = {}
    for text in texts:
        kind, _, rate = text.partition("=")
        share = _share(rate)
        if not kind or share is None:
            raise ConfigurationError(
                f"{option} is KIND=RATE, such as 429=0.1 or 500=5%, not {printable(repr(text), 80)}"
            )
        if kind in rates:
            raise ConfigurationError(f"{option} names {printable(repr(kind), 80)} twice")
        rates[kind] = share
    return rates


def _share(text: str) -> float | None:
    try:
        return float(text.removesuffix("%")) / (_PERCENT if text.endswith("%") else 1)
    except ValueError:
        return None


def latency_range(text: str, *, option: str) -> tuple[float, float]:
    """Read seconds, or a range of them.

    Raises:
        ConfigurationError: It is neither.

    Example:
        >>> latency_range("2", option="--latency"), latency_range("0.5-3", option="--latency")
        ((2.0, 2.0), (0.5, 3.0))
    """
    low, _, high = text.partition("-")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise ConfigurationError(f"{option} is seconds, such as 2 or 0.5-3, not {printable(repr(text), 80)}") from None
