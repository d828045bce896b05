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

__all__ = ["fault_rates", "latency_range", "with_embedded_sandbox", "with_sandbox_options"]

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
class _Form:
    """How a field is written on the command line.

    Attributes:
        option: The option's name.
        type: The type that the parser reads.
        parameter: Help, and whatever else the parser needs.
        read: Returns the field's value for the option's value and name.
    """

    option: str
    type: Any
    parameter: Parameter
    read: Callable[[Any, str], Any] = lambda value, _: value


_FORMS = {
    "latency": _Form(
        "latency", str, Parameter(help="Seconds that a request takes: S, or LOW-HIGH.", metavar="S"), latency_range
    ),
    "retry_after": _Form(
        "retry_after", str, Parameter(help="Seconds in the Retry-After of a 429, or exact."), _retry_after
    ),
    "faults": _Form(
        "fault",
        tuple[str, ...],
        Parameter(
            help="KIND=RATE, such as 429=0.1 or 500=5%; may be repeated. Kinds: `imagen-async sandbox --list-faults`.",
            metavar="KIND=RATE",
        ),
        fault_rates,
    ),
    "images": _Form("tiny", bool, Parameter(help="Make images of a few hundred bytes."), _images),
}


def _form(field: str) -> _Form:
    if field in _FORMS:
        return _FORMS[field]
    hint = typing.get_type_hints(SandboxOptions)[field]
    whole = {int: Whole, int | None: Whole | None}
    return _Form(field, whole.get(hint, hint), Parameter(help=_first_sentence(field)))


def _first_sentence(field: str) -> str:
    found = re.search(rf"^ +{field}: (.*?\.)(?=\s)", SandboxOptions.__doc__ or "", re.MULTILINE | re.DOTALL)
    return "" if found is None else " ".join(found[1].split())


class _Options:
    """Options for some fields of `SandboxOptions`.

    Args:
        fields: The fields.
        prefix: What each option's name begins with.
        group: Where help shows them.
        **parameter: Further settings of the parser for all of them.
    """

    def __init__(self, fields: Iterable[str], *, prefix: str, group: Group, **parameter: Any) -> None:
        self._forms = {field: _form(field) for field in fields}
        self._prefix = prefix
        self._parameter = Parameter(group=group, **parameter)

    def parameters(self) -> list[inspect.Parameter]:
        """Return a keyword parameter for each option."""
        return [
            inspect.Parameter(
                self._prefix + form.option,
                inspect.Parameter.KEYWORD_ONLY,
                default={bool: False}.get(form.type),
                annotation=Annotated[form.type, self._parameter, form.parameter],
            )
            for form in self._forms.values()
        ]

    def take(self, keywords: dict[str, Any]) -> dict[str, Any]:
        """Remove the options given from `keywords`, and return them as keywords of a `SandboxGateway`.

        Raises:
            ConfigurationError: A value has the wrong form.
        """
        given = {}
        for field, form in self._forms.items():
            name = self._prefix + form.option
            if name in keywords:
                given[field] = form.read(keywords.pop(name), option_name(name))
        return given


def option_name(parameter: str) -> str:
    """Return how a parameter is written on the command line."""
    return "--" + parameter.replace("_", "-")


def _with(
    command: Callable[..., R], parameters: Iterable[inspect.Parameter], run: Callable[..., R]
) -> Callable[..., R]:
    """Return `run` under the name of `command`, with these parameters instead of ``behaviour``."""
    signature = inspect.signature(command)
    kept = [parameter for name, parameter in signature.parameters.items() if name != "behaviour"]
    functools.update_wrapper(run, command)
    run.__signature__ = signature.replace(parameters=[*kept, *parameters])  # type: ignore[attr-defined] # PEP 362
    return run


def with_sandbox_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of a sandbox; its parameter ``behaviour`` receives them as keywords."""
    group = Group.create_ordered("How it behaves")
    options = _Options(_SERVED, prefix="", group=group, consume_multiple=True)

    def run(*arguments: Any, **keywords: Any) -> R:
        return command(*arguments, behaviour=options.take(keywords), **keywords)

    return _with(command, options.parameters(), run)


def with_embedded_sandbox(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command ``--sandbox`` and its options; its parameter ``behaviour`` receives them as keywords, or None.

    The command raises `ConfigurationError` if there are options of the sandbox and no ``--sandbox``.
    """
    group = Group.create_ordered("Sandbox: no key, no network, made-up images")
    options = _Options(_EMBEDDED, prefix="sandbox_", group=group)
    flag = Parameter(group=group, help="Use the embedded gateway: costs nothing, needs no key.")

    def run(*arguments: Any, sandbox: bool = False, **keywords: Any) -> R:
        named = [option_name(name) for name in keywords if name.startswith("sandbox_")]
        if named and not sandbox:
            raise ConfigurationError(f"{', '.join(named)}: only valid together with --sandbox")
        given = options.take(keywords)
        return command(*arguments, behaviour=given if sandbox else None, **keywords)

    switch = inspect.Parameter(
        "sandbox", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, flag]
    )
    return _with(command, [switch, *options.parameters()], run)
