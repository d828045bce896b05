from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cyclopts import App
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.cli.app import app
from imagen_async.cli.sandbox_options import fault_rates, latency_range, with_sandbox_options
from imagen_async.exceptions import ConfigurationError
from imagen_async.sandbox import SandboxOptions

if TYPE_CHECKING:
    from tests.cli.conftest import Invoke


def parsed(*arguments: str, embedded: bool) -> Any:
    """Return what a command receives for these arguments."""

    @with_sandbox_options(embedded=embedded)
    def command(*, behaviour: dict[str, Any] | None) -> dict[str, Any] | None:
        return behaviour

    parser = App(result_action="return_value", help_on_error=False)
    parser.default(command)
    return parser(list(arguments), exit_on_error=False, print_error=False)


@given(st.text())
def test_a_malformed_fault_is_a_configuration_error_that_names_the_option(text: str) -> None:
    try:
        rates = fault_rates([text], "--fault")
    except ConfigurationError as error:
        assert "--fault" in error.message
        assert error.message.isprintable()
    else:
        assert list(rates) == [text.partition("=")[0]]


@pytest.mark.parametrize("text", ["", "429", "=0.1", "429=", "429=often", "429=%"])
def test_a_fault_needs_a_kind_and_a_rate(text: str) -> None:
    with pytest.raises(ConfigurationError, match="KIND=RATE"):
        fault_rates([text], "--fault")


def test_a_fault_is_named_once() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        fault_rates(["429=0.1", "429=0.2"], "--fault")


@pytest.mark.parametrize("text", ["", "soon", "1-soon", "-1"])
def test_a_latency_is_seconds_or_a_range(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--latency must be seconds"):
        latency_range(text, "--latency")


def test_every_option_of_the_sandbox_command_reaches_the_gateway() -> None:
    behaviour = parsed(
        *("--host", "::1", "--port", "8080", "--latency", "1-3", "--rpm", "60", "--max-concurrent", "4"),
        *("--retry-after", "exact", "--fault", "429=10%", "500=0.05", "--fault", "slow=0.2", "--faults-per-body", "1"),
        *("--filtered", "0.1", "--short", "0.2", "--seed", "7", "--ledger", "bills.jsonl", "--tiny"),
        embedded=False,
    )
    assert SandboxOptions(**behaviour) == SandboxOptions(
        host="::1",
        port=8080,
        latency=(1.0, 3.0),
        rpm=60,
        max_concurrent=4,
        retry_after="exact",
        faults={"429": 0.1, "500": 0.05, "slow": 0.2},
        faults_per_body=1,
        filtered=0.1,
        short=0.2,
        seed=7,
        ledger="bills.jsonl",
        images="tiny",
    )


def test_the_embedded_sandbox_has_the_same_options_under_its_prefix() -> None:
    behaviour = parsed(
        *("--sandbox", "--sandbox-fault", "429=0.1", "--sandbox-fault", "500=0.2", "--sandbox-seed", "7"),
        *("--sandbox-rpm", "5", "--sandbox-latency", "2", "--sandbox-ledger", "bills.jsonl", "--sandbox-tiny"),
        embedded=True,
    )
    assert behaviour == {
        "faults": {"429": 0.1, "500": 0.2},
        "seed": 7,
        "rpm": 5,
        "latency": (2.0, 2.0),
        "ledger": Path("bills.jsonl"),
        "images": "tiny",
    }


def test_options_that_are_not_given_keep_the_gateways_defaults() -> None:
    assert parsed(embedded=False) == {}
    assert parsed("--retry-after", "2.5", embedded=False) == {"retry_after": 2.5}
    assert parsed("--sandbox", embedded=True) == {}
    assert parsed(embedded=True) is None


def test_options_of_the_sandbox_need_a_sandbox(invoke: Invoke) -> None:
    for command in (("run", "prompts.txt", "-o", "out"), ("generate", "A red fox")):
        ran = invoke(*command, "--sandbox-rpm", "3", "--sandbox-tiny")
        assert (ran.status, ran.out) == (2, "")
        assert "--sandbox-rpm, --sandbox-tiny: only valid together with --sandbox" in ran.err


@pytest.mark.parametrize("command", ["generate", "run", "status", "models", "sandbox"])
def test_every_option_has_help(command: str) -> None:
    for argument in app[command].assemble_argument_collection(parse_docstring=True):
        assert argument.parameter.help or not argument.parse, argument.name
