"""What a user sees of hostile responses: one line, a file with details, an exit status, and never a traceback."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import trustme

from imagen_async.exceptions import FailureClass
from tests.batch.running import errors, metadata, strays
from tests.cli.conftest import Ran
from tests.clients import KEY
from tests.hostile.attacking import ATTACKED, FOX, hostile_to
from tests.hostile.bodies import ASKED
from tests.hostile.cases import CASES
from tests.servers import Handler, answer, reply, serving_apart

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke

Attack = Callable[[Handler], Ran]

QUIET = ("--no-fsync", "--progress", "off")
"""No waits for the disk, and output at the end only."""


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A file of three prompts; the second gets the hostile response."""
    path = tmp_path / "three.txt"
    path.write_text("\n".join(ATTACKED), encoding="utf-8")
    return path


@pytest.fixture
def attack(invoke: Invoke, three: Path, monkeypatch: pytest.MonkeyPatch) -> Attack:
    """Run the command against a gateway that is hostile to one of three prompts."""

    def run(said: Handler) -> Ran:
        with serving_apart(hostile_to(FOX, said)) as server:
            monkeypatch.setenv("IMAGEN_API_KEY", KEY)
            monkeypatch.setenv("IMAGEN_BASE_URL", server.base_url)
            ran = invoke("run", three, "-o", "out", "-n", ASKED, "--on-ambiguous", "fail", "--json", *QUIET)
        assert "Traceback" not in ran.err
        assert KEY not in ran.err + ran.out
        return ran

    return run


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_response_is_a_message_and_status_one(name: str, attack: Attack, tmp_path: Path) -> None:
    case, out = CASES[name], tmp_path / "out"
    ran = attack(case.said)
    assert ran.status == 1
    assert {status: ran.json[status] for status in ("jobs", "succeeded", case.status)} == {
        "jobs": 3,
        "succeeded": 2,
        case.status: 1,
    }
    assert ran.json["images"] == len(metadata(out)) == 2 * ASKED + case.kept
    assert ran.json["doubts"] == (case.failure is FailureClass.AMBIGUOUS)
    assert "out/errors.jsonl" in ran.err
    assert all(line.isprintable() for line in ran.err.splitlines())
    (line,) = errors(out)
    assert line["error"] == case.error.__name__
    assert strays(out) == []


def test_a_redirect_is_a_message_with_its_target_and_status_three(attack: Attack, tmp_path: Path) -> None:
    there = "https://elsewhere.invalid/v1"
    ran = attack(answer(reply(b"", status=302, headers=f"Location: {there}\r\n")))
    assert ran.status == 3
    assert f"it sends us to {there} (its header Location)" in ran.err
    assert "mend the base URL" in ran.err
    assert strays(tmp_path / "out") == []


def test_an_untrusted_certificate_is_a_message(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with serving_apart(answer(reply(b"{}")), tls=context) as server:
        monkeypatch.setenv("IMAGEN_API_KEY", KEY)
        monkeypatch.setenv("IMAGEN_BASE_URL", server.base_url.replace("http:", "https:"))
        ran = invoke("models", "--remote")
        assert server.asked == []
    assert ran.status == 1
    assert "Traceback" not in ran.err
    assert "CERTIFICATE_VERIFY_FAILED" in ran.err


NO_LIST = [
    "headers cut off",
    "truncated chunked",
    "gzip that is none",
    "not HTTP",
    "HTML in a 200",
    "nested 100,000 deep",
    "a number of ten thousand digits",
    "an endless 200",
    "an endless error body",
    "another 2xx",
]


@pytest.mark.parametrize(
    "command", [("models", "--remote"), ("generate", FOX, "-o", "fox.png")], ids=lambda each: each[0]
)
@pytest.mark.parametrize("name", NO_LIST)
def test_a_command_with_one_hostile_response_shows_a_message_and_leaves_nothing(
    name: str, command: tuple[str, ...], invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("imagen_async.limiter.backoff.RetryPolicy.delay", lambda *_, **__: 0.0)
    with serving_apart(CASES[name].said) as server:
        monkeypatch.setenv("IMAGEN_API_KEY", KEY)
        monkeypatch.setenv("IMAGEN_BASE_URL", server.base_url)
        ran = invoke(*command)
    assert ran.status != 0
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err
    assert all(line.isprintable() for line in ran.err.splitlines())
    assert list(tmp_path.iterdir()) == []
