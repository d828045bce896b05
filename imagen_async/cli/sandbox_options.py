"""Options of the sandbox on the command line, derived from `SandboxOptions`.

Name, type and help of an option come from the field. A table here holds only the fields that are written differently on
a command line than in Python.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import attrs
from cyclopts import Group, Parameter

from imagen_async.cli.options import Whole
from imagen_async.exceptions import ConfigurationError, printable
from imagen_async.sandbox.settings import SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["fault_rates", "latency_range", "with_sandbox_options"]

_EMBEDDED = ("faults", "seed", "rpm", "latency", "ledger", "images")
_SERVED = (
    *("host", "port", "latency", "rpm", "max_concurrent", "retry_after", "faults", "faults_per_body"),
    *("filtered", "short", "seed", "ledger", "images"),
)
_PERCENT = 100

R = TypeVar("R")


def fault_rates(texts: Iterable[str], option: str) -> dict[str, float]:
    """Return the shares of faults that an option names.

    Args:
        texts: Each ``KIND=RATE``, the rate from 0 to 1 or a percentage.
        option: The option's name, for the error message.

    Raises:
        ConfigurationError: A text has another form, or names a fault for the second time.

    Example:
        >>> fault_rates(["429=0.1", "500=5%"], "--fault")
        {'429': 0.1, '500': 0.05}
    """
    rates: dict[str, float] = {}
    for text in texts:
        kind, _, rate = text.partition("=")
        share = _share(rate)
        if not kind or share is None:
            raise ConfigurationError(
                f"{option} must be KIND=RATE, such as 429=0.1 or 500=5%, not {printable(repr(text), 80)}"
            )
        if kind in rates:
            raise ConfigurationError(f"{option} names {printable(repr(kind), 80)} twice; give it one rate")
        rates[kind] = share
    return rates


def _share(text: str) -> float | None:
    try:
        return float(text.removesuffix("%")) / (_PERCENT if text.endswith("%") else 1)
    except ValueError:
        return None


def latency_range(text: str, option: str) -> tuple[float, float]:
    """Return a range of seconds.

    Args:
        text: A number, or two with a hyphen between them.
        option: The option's name, for the error message.

    Raises:
        ConfigurationError: The text has another form.

    Example:
        >>> latency_range("2", "--latency"), latency_range("0.5-3", "--latency")
        ((2.0, 2.0), (0.5, 3.0))
    """
    low, _, high = text.partition("-")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise ConfigurationError(
            f"{option} must be seconds, such as 2 or 0.5-3, not {printable(repr(text), 80)}"
        ) from None


def _retry_after(text: str, option: str) -> float | str:
    return text if text == "exact" else latency_range(text, option)[0]


def _images(tiny: bool, _option: str) -> str:  # noqa: FBT001 - called with an option's value
    return "tiny" if tiny else "realistic"


@attrs.frozen
class _Option:
    """How the command line takes a field of `SandboxOptions`.

    Attributes:
        field: The field's name.
        name: The option's name, with underscores.
        type: The type that the parser reads.
        parameter: Help, and other settings of the parser.
        read: Returns the field's value for the option's value and written name.
    """

    field: str
    name: str
    type: Any
    parameter: Parameter
    read: Callable[[Any, str], Any] = lambda value, _: value


_SPECIAL = {
    option.field: option
    for option in (
        _Option(
            "faults",
            "fault",
            tuple[str, ...],
            Parameter(
                help="KIND=RATE, such as 429=0.1 or 500=5%; may be repeated. See `imagen-async sandbox --list-faults`.",
                metavar="KIND=RATE",
            ),
            fault_rates,
        ),
        _Option(
            "latency",
            "latency",
            str,
            Parameter(help="Seconds that a request takes: S, or LOW-HIGH.", metavar="S"),
            latency_range,
        ),
        _Option(
            "retry_after",
            "retry_after",
            str,
            Parameter(help="Seconds in the Retry-After of a 429, or exact."),
            _retry_after,
        ),
        _Option("images", "tiny", bool, Parameter(help="Make images of a few hundred bytes."), _images),
    )
}
"""Options that are written differently than their fields."""


def _option(field: str) -> _Option:
    if field in _SPECIAL:
        return _SPECIAL[field]
    hint = typing.get_type_hints(SandboxOptions)[field]
    whole = {int: Whole, int | None: Whole | None}
    return _Option(field, field, whole.get(hint, hint), Parameter(help=_first_sentence(field)))


def _first_sentence(field: str) -> str:
    found = re.search(rf"^ +{field}: (.*?\.)(?=\s)", SandboxOptions.__doc__ or "", re.MULTILINE | re.DOTALL)
    return "" if found is None else " ".join(found[1].split())


def with_sandbox_options(*, embedded: bool) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add the sandbox's options to a command, whose parameter ``behaviour`` receives them as `SandboxGateway` keywords.

    Args:
        embedded: Add ``--sandbox`` and ``--sandbox-...``, and pass None without ``--sandbox``. With options of the
            sandbox and no ``--sandbox`` the command raises `ConfigurationError`.
    """
    prefix, fields = ("sandbox_", _EMBEDDED) if embedded else ("", _SERVED)
    group = Group.create_ordered("Sandbox: no key, no network, made-up images" if embedded else "How it behaves")
    options = {prefix + option.name: option for option in map(_option, fields)}
    shared = Parameter(group=group, consume_multiple=not embedded)
    parameters = [_keyword(name, option.type, shared, option.parameter) for name, option in options.items()]
    if embedded:
        switch = Parameter(help="Use the embedded gateway: costs nothing, needs no key.")
        parameters.insert(0, _keyword("sandbox", bool, shared, switch))

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        def run(*arguments: Any, **keywords: Any) -> R:
            started = keywords.pop("sandbox", False) or not embedded
            given = {name: keywords.pop(name) for name in options if name in keywords}
            if given and not started:
                names = ", ".join(map(_written, given))
                raise ConfigurationError(f"{names}: only valid together with --sandbox")
            behaviour = {
                options[name].field: options[name].read(value, _written(name)) for name, value in given.items()
            }
            return command(*arguments, behaviour=behaviour if started else None, **keywords)

        functools.update_wrapper(run, command)
        signature = inspect.signature(command)
        kept = [parameter for name, parameter in signature.parameters.items() if name != "behaviour"]
        # The parser builds its options from the signature.
        run.__signature__ = signature.replace(parameters=[*kept, *parameters])  # type: ignore[attr-defined] # PEP 362
        return run

    return decorate


def _keyword(name: str, kind: Any, *settings: Parameter) -> inspect.Parameter:
    default = False if kind is bool else None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[(kind, *settings)]
    )


def _written(name: str) -> str:
    return "--" + name.replace("_", "-")
