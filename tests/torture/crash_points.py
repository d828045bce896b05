"""Kills or disturbs a small batch at each call that changes a file, and resumes it: nothing is lost or half done.

The run is the command line under strace, in a process of its own, with the gateway out here. What it left is looked
at, then another run resumes it, and what must hold at the end is checked: see `left`.
"""

from __future__ import annotations

import tempfile
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from imagen_async.sandbox import read_ledger
from tests.torture.left import Left, check_end, left_over
from tests.torture.runs import REQUESTS, SLOTS, Ended, Forge, Scene, Tracer, resume
from tests.torture.tracing import Point, all_changes, injection, points

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HARMS", "SCENES", "Harm", "Result", "Scene", "Trial", "found_points", "perform", "scenes"]

SCENES = ("fresh", "resumed", "faulty")
"""A first run, a run that resumes a killed one, and a first run whose responses each break off once."""


@attrs.frozen
class Harm:
    """What is done to a run.

    Attributes:
        what: In strace's words.
        on: Whether it is done to all such calls from the point on.
    """

    what: str
    on: bool = False


HARMS = {
    "kill": Harm("signal=SIGKILL"),
    "EIO": Harm("error=EIO"),
    "ENOSPC": Harm("error=ENOSPC"),
    "full": Harm("error=ENOSPC", on=True),
}


@attrs.frozen(order=True)
class Trial:
    """One run to be harmed at one point."""

    scene: str
    harm: str
    point: Point

    def __str__(self) -> str:
        return f"{self.scene}:{self.harm}:{self.point}"

    @classmethod
    def parsed(cls, text: str) -> Trial:
        """Read what `str` wrote."""
        scene, harm, point = text.split(":", 2)
        return cls(scene, harm, Point.parsed(point))


@attrs.frozen
class Result:
    """What came of a trial.

    Attributes:
        trial: Which.
        outcome: In a word or two.
        breach: Which promise was broken, or None.
    """

    trial: Trial
    outcome: str
    breach: str | None = None


def scenes(folder: Path, forge: Forge) -> dict[str, Scene]:
    """Set the scenes up."""
    fresh = Scene.fresh(folder / "fresh")
    resumed = fresh.copied(folder / "resumed")
    _leave_half_done(resumed, forge)
    return {"fresh": fresh, "resumed": resumed, "faulty": attrs.evolve(fresh, faulty=True)}


def _leave_half_done(scene: Scene, forge: Forge) -> None:
    """Kill a run that has bought three images and named two, so that one file has no record."""
    token = "1" * 12
    point = Point("link", f".imagen/tmp/imagen-{token}-2.partial", 1)
    with scene.gateway() as gateway:
        ended = forge.run(scene, gateway, _harming(scene, point, HARMS["kill"]), token=token)
    assert ended.status == -9, ended
    assert list(scene.output.glob(".imagen/tmp/*"))


def _harming(scene: Scene, point: Point, harm: Harm) -> Tracer:
    log, folder = str(scene.folder / "strace"), str(scene.output)
    return partial(injection, log=log, point=point, folder=folder, what=harm.what, on=harm.on)


def found_points(scene: Scene, forge: Forge) -> list[Point]:
    """Run a copy of the scene without harm, and list what it does to its files."""
    with tempfile.TemporaryDirectory() as folder:
        copy = scene.copied(Path(folder) / "clean")
        with copy.gateway() as gateway:
            ended = forge.run(copy, gateway, partial(all_changes, log=str(copy.folder / "strace")))
        assert ended.status == 0, ended.complaint
        logs = [path.read_text().splitlines() for path in copy.folder.glob("strace.*")]
    return points(logs, str(copy.output))


def perform(trial: Trial, scenes: Mapping[str, Scene], forge: Forge) -> Result:
    """Harm a run, resume it, and judge."""
    with tempfile.TemporaryDirectory(prefix="imagen-torture-") as folder:
        scene = scenes[trial.scene].copied(Path(folder) / "scene")
        ended: Ended | None = None
        try:
            before, requests = Left.of(scene.output), read_ledger(scene.ledger).requests
            with scene.gateway() as gateway:
                ended = forge.run(scene, gateway, _harming(scene, trial.point, HARMS[trial.harm]))
                left = Left.of(scene.output)
                _check_ended(ended, scene, left, requests, killed=trial.harm == "kill")
                outcome = _outcome(ended, scene)
                _check_sync(trial, outcome)
                left.check(scene.output, ended.said, most_open=SLOTS)
                assert before.images.items() <= left.images.items()
                faults = scene.faults()
                # What was unanswered before is in doubt until its images have been found in the folder.
                most = SLOTS + before.unanswered + before.doubts + faults
                assert left.open + left.doubts <= most, "too many in flight"
                statuses = resume(scene, gateway)
            assert set(statuses) <= {"succeeded", "skipped"}, statuses
            # Before anything reads the journal: that would leave files of SQLite's beside it.
            assert not (strays := left_over(scene.output)), f"left over: {strays}"
            end = check_end(scene.output, REQUESTS, read_ledger(scene.ledger), left)
            most = left.doubts + left.open + scene.faults() - faults
            assert end.doubts <= most, "a request is in doubt that was neither in flight nor answered badly"
        except Exception as error:  # noqa: BLE001 - any error is a broken promise
            complaint = ended.complaint[-600:] if ended else ""
            return Result(trial, "BREACH", f"{_told(error)}\n{complaint}")
        return Result(trial, outcome)


def _check_ended(ended: Ended, scene: Scene, left: Left, requests_before: int, *, killed: bool) -> None:
    assert ended.status is not None, "it hangs"
    assert ended.status in ({-9, 0} if killed else {0, 1, 2, 3}), f"exit status {ended.status}"
    assert "Traceback" not in ended.complaint, "a traceback"
    assert ended.status < 1 or ended.complaint.strip(), "it stopped without a message"
    ledger = read_ledger(scene.ledger)
    assert ended.status != 2 or ledger.requests == requests_before, "it calls it bad usage and has sent something"
    if ended.status == 0:
        check_end(scene.output, REQUESTS, ledger, left)


def _check_sync(trial: Trial, outcome: str) -> None:
    """A failed sync is reported, unless it is SQLite's own, or the image was written to a fresh file instead."""
    ours = trial.point.call == "fsync" and not trial.point.path.startswith(".imagen/tmp/")
    assert not (ours and outcome == "went on"), "a sync failed, and nothing was said"


def _outcome(ended: Ended, scene: Scene) -> str:
    if ended.status == -9:
        return "killed"
    if "(INJECTED)" not in (scene.folder / "strace").read_text():
        return "not reached"
    return "went on" if ended.status == 0 else f"exit {ended.status}"


def _told(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno}: {place.line})"
