"""The sandbox as a user writes it. Not run: mypy checks that its keywords have the types of `SandboxOptions`."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from imagen_async.sandbox import SandboxGateway, SandboxOptions, running_sandbox

if TYPE_CHECKING:
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


def gateways_take_options_and_keywords() -> None:
    gateway = SandboxGateway(
        SandboxOptions(seed=7), images="tiny", faults={"429": 0.1}, latency=(1, 3), ledger="a.jsonl"
    )
    assert_type(gateway, SandboxGateway)
    assert_type(gateway.options.latency, tuple[float, float])
    SandboxGateway(latency=2, retry_after="exact", models=["mine"])
    SandboxGateway(images="huge")  # type: ignore[arg-type] # neither size
    SandboxGateway(latency="long")  # type: ignore[arg-type] # neither seconds nor a range
    SandboxGateway(colour="red")  # type: ignore[call-arg] # not an option
    SandboxGateway("tiny")  # type: ignore[arg-type] # options come first
    with running_sandbox(images="tiny") as running:
        assert_type(running, SandboxGateway)
    running_sandbox(rpm="many")  # type: ignore[arg-type] # a number


async def the_fixture_takes_keywords(imagen_sandbox_factory: SandboxFactory) -> None:
    assert_type(await imagen_sandbox_factory(filtered=1.0), SandboxGateway)
    await imagen_sandbox_factory(filtered="all")  # type: ignore[arg-type] # a share
