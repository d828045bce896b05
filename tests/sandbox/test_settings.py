"""Options: one error lists all mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from imagen_async.exceptions import ConfigurationError
from imagen_async.sandbox import FAULTS, SANDBOX_KEY, SandboxGateway, SandboxOptions


def test_the_sandboxs_key_has_the_contracts_shape() -> None:
    assert SANDBOX_KEY.startswith("sk-")
    assert len(SANDBOX_KEY) == 51


def test_an_unknown_fault_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="no such fault: 418, hiccup") as caught:
        SandboxOptions(faults={"hiccup": 0.1, "418": 0.1})
    assert all(name in str(caught.value) for name in FAULTS)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"faults": {"500": 1.1}}, "from 0 to 1"),
        ({"faults": {"500": float("nan")}}, "from 0 to 1"),
        ({"filtered": -0.1}, "from 0 to 1"),
        ({"faults": {"500": 0.6}, "short": 0.5}, "together"),
        ({"latency": (2, 1)}, "latency"),
        ({"latency": -1}, "latency"),
        ({"rpm": 0}, "rpm"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"faults_per_body": -1}, "faults_per_body"),
        ({"retry_after": "soon"}, "retry_after"),
        ({"retry_after": -1.0}, "retry_after"),
        ({"slow_s": -1.0}, "slow_s"),
        ({"unknown_model_status": 418}, "unknown_model_status"),
        ({"images": "huge"}, "images"),
        ({"api_key": "two words"}, "api_key"),
        ({"api_key": ""}, "api_key"),
    ],
)
def test_an_invalid_value_is_an_error_that_names_the_option(mistake: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SandboxOptions(**mistake)


def test_all_mistakes_are_in_one_error() -> None:
    with pytest.raises(ConfigurationError, match=r"rpm.*; images"):
        SandboxOptions(rpm=0, images="huge")  # type: ignore[arg-type] # the mistake under test


@pytest.mark.parametrize("keywords", [{"rpm": 0}, {"colour": "red"}, {"latency": "long"}, {"faults": 3}])
def test_invalid_keywords_of_the_gateway_are_configuration_errors(keywords: Any) -> None:
    with pytest.raises(ConfigurationError):
        SandboxGateway(**keywords)


def test_keywords_override_options() -> None:
    gateway = SandboxGateway(SandboxOptions(seed=7, rpm=3), rpm=5)
    assert (gateway.options.seed, gateway.options.rpm) == (7, 5)


def test_filtered_and_short_are_faults() -> None:
    options = SandboxOptions(faults={"500": 0.1, "filtered": 0.1, "401": 0.0}, filtered=0.25, short=0.5)
    assert options.fault_rates == {"500": 0.1, "filtered": 0.35, "short": 0.5}


def test_a_custom_key_is_not_in_the_repr() -> None:
    assert "sk-mine" not in repr(SandboxOptions(api_key="sk-mine"))
