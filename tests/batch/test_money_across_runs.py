"""What `on_ambiguous` promises over runs that are killed, or stopped, with requests in flight: real processes."""

from __future__ import annotations

import json
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from imagen_async.sandbox import SandboxGateway, running_sandbox
from tests.batch.running import errors
from tests.cli.child import child, ran, read_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

pytestmark = pytest.mark.slow

JOBS = 4
PROMPTS = [f"A red fox number {number}" for number in range(JOBS)]


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C twice: the second one cancels what is in flight."""
    process.send_signal(signal.SIGINT)
    read_until(process, "finishing the requests in flight")
    process.send_signal(signal.SIGINT)
    process.communicate()


@attrs.frozen
class Scene:
    """A gateway that bills requests and then stalls, and a folder that several processes fill one after the other."""

    gateway: SandboxGateway
    folder: Path

    def command(self, *options: str) -> tuple[str, ...]:
        (self.folder / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
        (self.folder / "key").write_text(self.gateway.api_key)
        where = ("--base-url", self.gateway.base_url, "--api-key-file", "key", "--allow-http")
        return ("run", "prompts.txt", "-o", "out", *where, "--no-fsync", "--json", *options)

    def stopped(self, stop: Callable[[subprocess.Popen[str]], None], *options: str) -> None:
        """Run until every job has one more request in flight that has been billed; then stop the process."""
        wanted = len(self.gateway.ledger.entries) + JOBS
        with child(*self.command(*options), folder=self.folder) as process:
            while len(self.gateway.ledger.entries) < wanted:
                assert process.poll() is None
                time.sleep(0.01)
            stop(process)
        assert len(self.gateway.ledger.entries) == wanted

    def ran(self, *options: str) -> dict[str, Any]:
        """Run to the end; return the figures that it printed."""
        done = ran(*self.command(*options), folder=self.folder)
        figures: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if figures["succeeded"] + figures["skipped"] == JOBS else 1)
        return figures

    @property
    def billed(self) -> set[int]:
        """How often the jobs were billed."""
        bills = dict.fromkeys(PROMPTS, 0)
        for entry in self.gateway.ledger.entries:
            bills[str(entry.prompt)] += entry.billed
        return set(bills.values())

    @property
    def keys(self) -> list[set[str | None]]:
        """The Idempotency-Keys that came for each prompt."""
        found = defaultdict(set)
        for entry in self.gateway.ledger.entries:
            found[entry.prompt].add(entry.idempotency_key)
        return list(found.values())

    def check_keys(self) -> None:
        """Each job has used one key, and no two jobs the same."""
        assert [len(keys) for keys in self.keys] == [1] * JOBS
        assert len(set.union(*self.keys)) == JOBS


@pytest.fixture(params=[kill, interrupt])
def stop(request: pytest.FixtureRequest) -> Callable[[subprocess.Popen[str]], None]:
    how: Callable[[subprocess.Popen[str]], None] = request.param
    return how


def stalling(times: int) -> Any:
    """A gateway that stalls so often for each body, and then serves it."""
    return running_sandbox(images="tiny", faults={"stall": 1.0}, faults_per_body=times, stall_s=3600)


def test_with_fail_an_interrupted_request_is_not_sent_again_unless_retry_failed_is_given(
    tmp_path: Path, stop: Callable[[subprocess.Popen[str]], None]
) -> None:
    with stalling(1) as gateway:
        scene = Scene(gateway, tmp_path)
        scene.stopped(stop, "--on-ambiguous", "fail")
        for _ in range(2):
            figures = scene.ran("--on-ambiguous", "fail")
            assert (figures["in_doubt"], figures["attempts"]) == (JOBS, 0)
            assert scene.billed == {1}
        assert [line["status"] for line in errors(tmp_path / "out")] == ["in_doubt"] * JOBS
        assert "--retry-failed" in errors(tmp_path / "out")[0]["message"]
        figures = scene.ran("--on-ambiguous", "fail", "--retry-failed")
        assert (figures["succeeded"], figures["attempts"]) == (JOBS, JOBS)
        assert scene.billed == {2}
        scene.check_keys()


def test_with_once_a_job_is_billed_twice_at_most_however_many_runs_are_interrupted(
    tmp_path: Path, stop: Callable[[subprocess.Popen[str]], None]
) -> None:
    with stalling(3) as gateway:
        scene = Scene(gateway, tmp_path)
        scene.stopped(stop)
        scene.stopped(stop)
        assert scene.billed == {2}
        figures = scene.ran()
        assert (figures["in_doubt"], figures["attempts"]) == (JOBS, 0)
        assert scene.billed == {2}
        # A request in doubt is sent again only where the policy allows it, and always under the same key.
        scene.stopped(stop, "--retry-failed")
        assert scene.ran()["in_doubt"] == JOBS
        assert scene.ran("--retry-failed")["succeeded"] == JOBS
        assert scene.billed == {4}
        scene.check_keys()


def test_with_once_an_interrupted_request_is_sent_again_by_the_next_run_under_the_same_key(
    tmp_path: Path, stop: Callable[[subprocess.Popen[str]], None]
) -> None:
    with stalling(1) as gateway:
        scene = Scene(gateway, tmp_path)
        scene.stopped(stop)
        figures = scene.ran()
        assert (figures["succeeded"], figures["attempts"]) == (JOBS, JOBS)
        assert scene.billed == {2}
        scene.check_keys()


def test_with_retry_interrupted_requests_count_against_the_attempts_of_a_job(tmp_path: Path) -> None:
    with stalling(6) as gateway:
        scene = Scene(gateway, tmp_path)
        for _ in range(5):
            scene.stopped(kill, "--on-ambiguous", "retry")
        assert scene.ran("--on-ambiguous", "retry")["in_doubt"] == JOBS
        assert scene.billed == {5}
        scene.check_keys()
