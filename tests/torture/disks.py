"""Real disks that are full, small, slow, or read-only, and limits of the process.

Each scene runs the command line in a process of its own and looks at what it left: exit status, stderr, requests
counted by the gateway, images, and requests listed in doubt. Then the fault is removed and the run is resumed.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from imagen_async.batch.journal import read_status
from imagen_async.sandbox import SandboxGateway, read_ledger, running_sandbox
from tests.batch.running import images, strays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["SCENES", "run"]

JOBS = 24
PROMPTS = [f"A red fox number {number}" for number in range(JOBS)]
SLOTS = 8
TIME_LIMIT_S = 60.0
MIB = 2**20
STALL_S = 5


@attrs.frozen
class Stage:
    """A place for one scene.

    Attributes:
        folder: Where everything is.
        disk: Where the output goes: a mount where the scene wants one.
        gateway: Who is asked.
    """

    folder: Path
    disk: Path
    gateway: SandboxGateway

    @property
    def output(self) -> Path:
        """What the runs work on."""
        return self.disk / "out"

    def run(
        self,
        *options: str,
        before: Sequence[str] = (),
        limits: Callable[[], object] | None = None,
        heard: Callable[[str], object] | None = None,
        stdout: str | None = None,
        module: Sequence[str] = ("imagen_async", "run"),
    ) -> Ended:
        """Run the command line to its end.

        Args:
            *options: Further ones.
            before: What the command is put behind: strace.
            limits: Called in the process before it begins.
            heard: Called with each line of its stderr.
            stdout: The file that its standard output goes to.
            module: What is run.
        """
        (self.folder / "prompts.txt").write_text("\n".join(PROMPTS))
        words = [sys.executable, "-m", *module, str(self.folder / "prompts.txt"), "--output", str(self.output)]
        words += ["--base-url", self.gateway.base_url, "--progress", "plain", "--progress-every", "0.2", *options]
        with open(stdout or self.folder / "said", "wb") as out:  # noqa: PTH123 - also a device
            process = subprocess.Popen(  # noqa: S603 - our own command
                [*before, *words],
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "IMAGEN_API_KEY": self.gateway.api_key},
                preexec_fn=limits,  # noqa: PLW1509 - nothing else runs here that forks
            )
            return self._ended(process, heard)

    def _ended(self, process: subprocess.Popen[str], heard: Callable[[str], object] | None) -> Ended:
        alarm = threading.Timer(TIME_LIMIT_S, process.kill)
        alarm.start()
        lines: list[str] = []
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if heard is not None:
                heard(line)
        alarm.cancel()
        return Ended(process.wait(), "".join(lines), self)


@attrs.frozen
class Ended:
    """How a run ended.

    Attributes:
        status: Its exit status.
        complaint: Its stderr.
        stage: Where it ran.
    """

    status: int
    complaint: str
    stage: Stage

    def check(self, *, status: int | tuple[int, ...], said: str = "", most_sent: int | None = None) -> Ended:
        """Check that the run ended as it should, and reported why."""
        wanted = status if isinstance(status, tuple) else (status,)
        assert self.status in wanted, f"exit {self.status} instead of {wanted}:\n{self.complaint}"
        assert "Traceback" not in self.complaint, self.complaint
        assert said in self.complaint, f"{said!r} is not said:\n{self.complaint}"
        if most_sent is not None:
            sent = self.stage.gateway.requests
            assert sent <= most_sent, f"{sent} requests were sent, at most {most_sent} were in flight"
        return self


def check_listed(stage: Stage) -> int:
    """Whatever was billed is there or listed; return how many images are in doubt."""
    billed = sum(entry.billed for entry in read_ledger(stage.folder / "ledger.jsonl").entries)
    status = read_status(stage.output / ".imagen")
    listed = status.doubtful_images + status.unanswered.images
    files = sum(1 for path in (stage.output / "images").rglob("*.png"))
    assert billed <= files + listed, f"{billed} images were billed, {files} are there and {listed} listed"
    return listed


def check_goes_on(stage: Stage, *options: str) -> None:
    """With the trouble ended, the same command completes the folder, and nothing was lost without being listed."""
    stage.run(*options).check(status=0)
    assert Counter(prompt for prompt, _ in images(stage.output).values()) == Counter(PROMPTS)
    assert strays(stage.output) == []
    check_listed(stage)


# -- the scenes -------------------------------------------------------------------------------------------------------


def small_disk(stage: Stage) -> str:
    """1 MiB: there is not enough space for an image, and nothing is sent."""
    with mounted(stage.disk, "size=1m"):
        stage.run().check(status=3, said="make room", most_sent=0)
        remount(stage.disk, "size=512m")
        check_goes_on(stage)
    return "nothing sent"


def full_disk(stage: Stage) -> str:
    """It fills up in mid-run: what is in flight is the last that was sent, and what does not fit is listed."""
    with mounted(stage.disk, "size=4m"):
        stage.run("--min-free", "0", "--disk-patience", "1").check(status=3, said="ENOSPC", most_sent=2 * SLOTS)
        listed = check_listed(stage)
        assert listed
        remount(stage.disk, "size=512m")
        check_goes_on(stage)
    return f"{listed} listed"


def room_in_time(stage: Stage) -> str:
    """It fills up, and room is made while what is paid for is in memory: all of it is written."""
    with mounted(stage.disk, "size=4m"):

        def heard(line: str) -> None:
            if "stopping" in line and "ENOSPC" in line:
                remount(stage.disk, "size=512m")

        stage.run("--min-free", "0", heard=heard).check(status=3, said="ENOSPC", most_sent=2 * SLOTS)
        assert check_listed(stage) == 0
        kept = len(images(stage.output))
        assert kept == stage.gateway.requests
        check_goes_on(stage)
        assert stage.gateway.requests == JOBS
    return f"{kept} sent, {kept} kept"


def watched_disk(stage: Stage) -> str:
    """There is room for some: the run stops before it is used up, and everything that was sent is kept."""
    with mounted(stage.disk, "size=64m"):
        stage.run("--concurrency", "2", "--rpm", "240", "--min-free", "40").check(status=3, said="are free")
        assert check_listed(stage) == 0
        kept = len(images(stage.output))
        sent = stage.gateway.requests
        assert 0 < kept == sent < JOBS, f"{sent} were sent, {kept} kept"
        remount(stage.disk, "size=512m")
        check_goes_on(stage)
    return f"{kept} sent, {kept} kept"


def read_only(stage: Stage) -> str:
    """Nothing can be written: nothing is sent."""
    with mounted(stage.disk, "size=64m"):
        remount(stage.disk, "ro")
        stage.run().check(status=(2, 3), said="Read-only file system", most_sent=0)
        remount(stage.disk, "rw,size=512m")
        check_goes_on(stage)
    return "nothing sent"


def device(stage: Stage) -> str:
    """/dev/full as the output folder, and as the standard output of a run."""
    output = attrs.evolve(stage, disk=Path("/dev"))
    Ended(_named(output, "/dev/full"), "", stage).check(status=2, most_sent=0)
    stage.run(stdout="/dev/full").check(status=74, said="stdout cannot be written")
    assert Counter(prompt for prompt, _ in images(stage.output).values()) == Counter(PROMPTS)
    return "refused; a full standard output loses nothing"


def _named(stage: Stage, output: str) -> int:
    words = [sys.executable, "-m", "imagen_async", "run", "-", "--output", output, "--base-url", stage.gateway.base_url]
    environment = {**os.environ, "IMAGEN_API_KEY": stage.gateway.api_key}
    ended = subprocess.run(  # noqa: S603 - our own command
        words, input="A red fox", text=True, capture_output=True, env=environment, check=False
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode


def quota(stage: Stage) -> str:
    """The user's quota is used up in mid-run (EDQUOT, as strace has it said)."""
    fails = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=link"]
    fails += ["-e", "inject=link:error=EDQUOT:when=5+"]
    ended = stage.run("--concurrency", "4", "--disk-patience", "1", before=fails)
    ended.check(status=3, said="EDQUOT", most_sent=JOBS - 1)
    listed = check_listed(stage)
    assert listed
    check_goes_on(stage)
    return f"{listed} listed"


def size_of_files(stage: Stage) -> str:
    """RLIMIT_FSIZE of 1 MiB: no image fits."""

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    stage.run("--disk-patience", "1", limits=limits).check(status=3, said="EFBIG", most_sent=2 * SLOTS)
    listed = check_listed(stage)
    assert listed == stage.gateway.requests
    check_goes_on(stage)
    return f"{listed} listed"


def few_descriptors(stage: Stage) -> str:
    """RLIMIT_NOFILE of 64 with 200 permits, on the command line: no more requests in flight than descriptors allow."""
    stage.run("--concurrency", "200", limits=_few).check(status=0, said="concurrent requests instead of 200")
    assert Counter(prompt for prompt, _ in images(stage.output).values()) == Counter(PROMPTS)
    assert check_listed(stage) == 0
    return "all kept"


def few_descriptors_unheeded(stage: Stage) -> str:
    """RLIMIT_NOFILE of 64 with 200 permits, in a program that does not lower them: every loss is listed."""
    ended = stage.run("--concurrency", "200", limits=_few, module=("tests.torture.heedless",))
    ended.check(status=(0, 1, 3))
    listed = check_listed(stage)
    check_goes_on(stage, "--retry-failed")
    return f"exit {ended.status}, {listed} listed"


def _few() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def stalled_disk(stage: Stage) -> str:
    """Each fsync takes 5 s: the loop continues, and no timeout of 3 s expires because of it."""
    slow = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync"]
    slow += ["-e", f"inject=fsync:delay_enter={STALL_S}s:when=6..9"]
    began = time.monotonic()
    stage.run("--timeout", "3", before=slow, module=("tests.torture.heedless",)).check(status=0)
    took = time.monotonic() - began
    assert took > STALL_S, "no disk stalled"
    longest = json.loads((stage.folder / "said").read_text())["longest_s"]
    assert longest < 1.0, f"the loop stood still for {longest} s"
    assert Counter(prompt for prompt, _ in images(stage.output).values()) == Counter(PROMPTS)
    return f"the loop stood still for {1000 * longest:.0f} ms at most, in a run of {took:.0f} s"


SCENES: dict[str, Callable[[Stage], str]] = {
    "small-disk": small_disk,
    "full-disk": full_disk,
    "room-in-time": room_in_time,
    "watched-disk": watched_disk,
    "read-only": read_only,
    "device": device,
    "quota": quota,
    "size-of-files": size_of_files,
    "few-descriptors": few_descriptors,
    "few-descriptors-unheeded": few_descriptors_unheeded,
    "stalled-disk": stalled_disk,
}
_MOUNTING = {"small-disk", "full-disk", "room-in-time", "watched-disk", "read-only"}
_TRACING = {"quota", "stalled-disk"}


def run(names: Sequence[str] = ()) -> int:
    """Play the scenes, all or those named, and print what came of each; return the exit status."""
    failed = 0
    for name in names or SCENES:
        if (why := _impossible(name)) is not None:
            sys.stdout.write(f"{name:26} not played: {why}\n")
            continue
        with tempfile.TemporaryDirectory(prefix="imagen-torture-") as folder:
            line, broke = _played(name, Path(folder).resolve())
        failed += broke
        sys.stdout.write(f"{name:26} {line}\n")
        sys.stdout.flush()
    return int(failed > 0)


def _played(name: str, folder: Path) -> tuple[str, bool]:
    (folder / "disk").mkdir()
    with running_sandbox(ledger=folder / "ledger.jsonl", latency=(0.05, 0.1)) as gateway:
        stage = Stage(folder, folder / "disk", gateway)
        try:
            return SCENES[name](stage), False
        except AssertionError as error:
            return f"BREACH: {error}\n  repeat: python -m tests.torture disks {name}", True


def _impossible(name: str) -> str | None:
    if name in _MOUNTING and not _may_mount():
        return "no right to mount"
    if name in _TRACING and shutil.which("strace") is None:
        return "strace is not installed"
    return None


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        mount = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)  # noqa: S603, S607 - the system's own
        if mount.returncode == 0:
            subprocess.run(["umount", folder], check=True)  # noqa: S603, S607 - the system's own
        return mount.returncode == 0


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Have a file system in memory at `folder`."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)  # noqa: S603, S607 - the system's own
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607 - the system's own


def remount(folder: Path, options: str) -> None:
    """Change it."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)  # noqa: S603, S607 - the system's own
