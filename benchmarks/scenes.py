"""The parts of the benchmark, each a list of scenes with plan, table, and targets; pure.

The limits are those that the project has set itself. What the command line asks for otherwise comes in as `Choices`
and goes into every scene of a part alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from benchmarks.contenders import EARLIER
from benchmarks.rounds import Plan
from benchmarks.table import CPU, DESCRIPTORS, LAG_MAX, LAG_P99, MEMORY, RATE, REQUESTS, USUAL, Column
from benchmarks.targets import OURS, Target, at_least, at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["PARTS", "Choices", "Scene", "compared"]

USUAL_SIZE = 1_500_000
IMAGES = {
    "ours": 600,
    "ours-core": 600,
    "openai-python": 120,
    "google-genai": 300,
    "litellm": 60,
    "aiohttp-json": 180,
    "bare": 900,
    "floor": 900,
}
"""Images of 1.5 MB a run: some two seconds of each, so that what the machine does meanwhile hits all alike."""
CONTENDERS = tuple(IMAGES)
TINY = {
    "ours": 4000,
    "openai-python": 1200,
    "aiohttp-json": 6000,
    "bare": 8000,
    "bare-tenacity": 6000,
    "ours-files": 3000,
    "ours-files-fsync": 1500,
    "ours-batch": 1500,
    "ours-batch-no-fsync": 2000,
}
"""Images of 1 KB a run, likewise."""


@attrs.frozen(kw_only=True)
class Choices:
    """What the command line may ask for; None leaves a scene as it is."""

    contenders: tuple[str, ...] | None = None
    rounds: int | None = None
    images: int | None = None
    size: int | None = None
    n: int | None = None
    concurrency: int | None = None
    latency: float = 0.0
    limit: float = 300.0
    folder: Path | None = None
    against: Path | None = None
    quick: bool = False


@attrs.frozen(kw_only=True)
class Scene:
    """One table.

    Attributes:
        title: What stands above it.
        plan: What runs.
        columns: What it shows.
        targets: What is to be reached.
        axis: Of a curve that the scene gives one point of, its name; see `growth`.
        at: Where on that axis.
    """

    title: str
    plan: Plan
    columns: tuple[Column, ...] = USUAL
    targets: tuple[Target, ...] = ()
    axis: str = ""
    at: float = 0.0

    @property
    def conditions(self) -> str:
        """The conditions of the run, in one line."""
        plan = self.plan
        how = [f"{plan.concurrency:,} requests at once", f"n={plan.n}", f"{plan.size:,} bytes an image"]
        how += ["over TLS"] * plan.tls
        how += [f"all answered at once when {plan.hold:,} wait"] * (plan.hold > 1)
        how += [f"a disk that stalls {1e3 * plan.stall:g} ms at a time"] * (plan.stall > 0)
        where = "keep them in memory" if plan.in_memory else f"write in {'the loop' if plan.in_loop else 'threads'}"
        return f"{', '.join([*how, f'peers {where}'])}; median of {plan.rounds}."


def planned(choices: Choices, names: Iterable[str], images: dict[str, int], **fields: object) -> Plan:
    """Make a plan of what a part wants and what was chosen."""
    names = tuple(choices.contenders or names)
    if choices.against is not None:
        names = tuple(each for name in names if name.startswith(OURS) for each in (name, name + EARLIER))
    chosen: dict[str, object] = {
        name: value for name in ("size", "n", "concurrency", "rounds") if (value := getattr(choices, name)) is not None
    }
    wanted = {"rounds": 1 if choices.quick else 5, "size": USUAL_SIZE, **fields, **chosen}
    count = choices.images or (64 if choices.quick else None)
    fewest = min(images.values(), default=1)
    return Plan(
        contenders=names,
        images={name: count or images.get(name.removesuffix(EARLIER), fewest) for name in names},
        latency=choices.latency,
        limit=choices.limit,
        folder=choices.folder,
        against=choices.against,
        **wanted,  # type: ignore[arg-type] # fields of the plan, by name
    )


def compared(scene: Scene) -> Scene:
    """Return the scene with ratios between two checkouts of the package as its targets, each within 5 %."""
    names = [name for name in scene.plan.contenders if name + EARLIER in scene.plan.contenders]
    figures = [(RATE, at_least(0.95)), (CPU, at_most(1.05)), (MEMORY, at_most(1.05))]
    targets = tuple(
        Target(column, limit, beside=name + EARLIER, who=name) for name in names for column, limit in figures
    )
    return attrs.evolve(scene, targets=targets)


def throughput(choices: Choices) -> list[Scene]:
    """32 requests in flight, as fast as each contender can."""
    targets = (
        Target(RATE, at_least(10), beside="openai-python"),
        Target(RATE, at_least(4), beside="google-genai"),
        Target(RATE, at_least(4), beside="aiohttp-json"),
        Target(RATE, beside="litellm"),
        Target(CPU, at_most(1.8), beside="floor"),
        Target(LAG_P99, at_most(10)),
        Target(LAG_MAX, at_most(40)),
    )
    return [Scene(title="Throughput", plan=planned(choices, CONTENDERS, IMAGES), targets=targets)]


def tls(choices: Choices) -> list[Scene]:
    """The same over TLS; one certificate for all, which each is told to trust in the same way."""
    names = [name for name in CONTENDERS if name != "ours-core"]
    images = {name: count * 2 // 3 for name, count in IMAGES.items()}
    targets = (
        Target(RATE, at_least(5), beside="openai-python"),
        Target(RATE, beside="google-genai"),
        Target(RATE, beside="aiohttp-json"),
        Target(CPU, beside="floor"),
        Target(LAG_P99),
    )
    return [Scene(title="Over TLS", plan=planned(choices, names, images, tls=True), targets=targets)]


def memory(choices: Choices) -> list[Scene]:
    """So many requests in flight, whose responses start together."""
    crowd = ("ours", "openai-python", "aiohttp-json")
    if choices.quick:
        return [_held(choices, 20, 4, names=crowd, most=None)]
    if choices.concurrency or choices.size or choices.n:
        return [_held(choices, choices.concurrency or 300, choices.n or 4, names=crowd, most=None)]
    large = {"size": 10_000_000, "rounds": 3}
    return [
        _held(choices, 300, 4, names=crowd, most=80),
        _held(choices, 1_000, 4, names=("ours",), most=112),
        _held(choices, 300, 4, names=("ours",), most=80, **large),
        _held(choices, 1_000, 1, names=("ours",), most=112, **large),
    ]


def _held(
    choices: Choices, in_flight: int, n: int, *, names: tuple[str, ...], most: float | None, **fields: object
) -> Scene:
    plan = planned(
        attrs.evolve(choices, images=choices.images or in_flight * n, concurrency=in_flight, n=n),
        names,
        {},
        **{**_found_out(in_flight), "in_loop": True, "hold": in_flight, "touch": False, **fields},
    )
    return Scene(
        title=f"Memory: {in_flight:,} in flight, {plan.size / 1e6:g} MB",
        plan=plan,
        columns=(*USUAL, DESCRIPTORS),
        targets=(Target(MEMORY, None if most is None else at_most(most)), Target(DESCRIPTORS)),
    )


def _found_out(in_flight: int) -> dict[str, object]:
    """Return plan fields with a warm-up that suits a client that begins with few requests in flight."""
    return {"warm_up": 3 * in_flight, "small_warm_up": True}


def tiny(choices: Choices) -> list[Scene]:
    """1 KB an image: what a request costs when its image costs nothing; rows with files write them to the disk."""
    targets = (
        Target(REQUESTS, at_least(0.5), beside="bare"),
        Target(REQUESTS, beside="bare-tenacity"),
        Target(REQUESTS, beside="openai-python"),
        Target(REQUESTS, at_least(0.5), who="ours-batch", beside="ours-files-fsync"),
        Target(REQUESTS, at_least(0.5), who="ours-batch-no-fsync", beside="ours-files"),
        Target(REQUESTS, at_least(0.5), who="ours-batch", beside="ours-files"),
        Target(REQUESTS, who="ours-batch", beside="ours-batch-no-fsync"),
        Target(REQUESTS, who="ours-files-fsync", beside="ours-files"),
    )
    plan = planned(choices, TINY, TINY, size=1_000, in_memory=True)
    lag = attrs.evolve(LAG_P99, heading=LAG_P99.name, before="")
    columns = (REQUESTS, attrs.evolve(CPU, heading="CPU ms/request"), MEMORY, lag, LAG_MAX)
    return [Scene(title="Tiny images", plan=plan, columns=columns, targets=targets)]


def stall(choices: Choices) -> list[Scene]:
    """A disk that takes nothing for 50 ms, works for 50 ms, and so on."""
    names = ("ours", "openai-python", "aiohttp-json")
    plan = planned(choices, names, IMAGES, stall=0.05)
    targets = (Target(LAG_P99, at_most(10)), Target(LAG_MAX, at_most(40)))
    return [Scene(title="A disk that stalls", plan=plan, targets=targets)]


GROWTH = ("ours", "openai-python", "google-genai", "litellm", "aiohttp-json")
IN_FLIGHT = (8, 32, 128, 512, 1_024)
SIZES = (10_000, 100_000, USUAL_SIZE, 5_000_000, 20_000_000)
COUNTS = (1, 2, 3, 4)


def growth(choices: Choices) -> list[Scene]:
    """Points of curves: against requests in flight, bytes of an image, images a request."""
    if choices.quick:
        return [_point(choices, "in flight", 8), _point(choices, "size", 10_000), _point(choices, "n", 2)]
    return [
        *(_point(choices, "in flight", at) for at in IN_FLIGHT),
        *(_point(choices, "size", at) for at in SIZES),
        *(_point(choices, "n", at) for at in COUNTS),
    ]


def _point(choices: Choices, axis: str, at: int) -> Scene:
    field = {"in flight": "concurrency", "size": "size", "n": "n"}[axis]
    fields: dict[str, object] = {"rounds": 1 if choices.quick else 3, field: at}
    if at > 32 and axis == "in flight":
        fields |= _found_out(at)
    if at > 128 and axis == "in flight":
        fields["rounds"] = 1  # some peers need minutes for it
    in_flight, size, n = (int(str(fields.get(*pair))) for pair in (("concurrency", 32), ("size", USUAL_SIZE), ("n", 1)))
    images = {name: enough(name, size=size, least=in_flight * n) for name in GROWTH}
    return Scene(title=f"Growth: {axis} {at:,}", plan=planned(choices, GROWTH, images, **fields), axis=axis, at=at)


def enough(name: str, *, size: int, least: int) -> int:
    """Say how many images of `size` bytes keep a contender busy for a second or two; tiny ones cost a request each."""
    fair = IMAGES[name] * USUAL_SIZE // max(size, USUAL_SIZE // 5)
    return max(least, fair)


ROWS = (1_000, 10_000, 100_000)
LONG_RUNNERS = ("ours-batch-no-fsync", "ours", "openai-python", "google-genai", "aiohttp-json")


def rows(choices: Choices) -> list[Scene]:
    """Points of one more curve: against the rows of a run, of tiny images into files, none of which is synced."""
    return [_run_of(choices, at) for at in (ROWS[:1] if choices.quick else ROWS)]


def _run_of(choices: Choices, at: int) -> Scene:
    names = LONG_RUNNERS if at > ROWS[1] else (*LONG_RUNNERS, "litellm")  # it would need ten minutes
    rounds = 1 if choices.quick or at > ROWS[0] else 3
    plan = planned(choices, names, dict.fromkeys(names, at), size=1_000, rounds=rounds)
    return Scene(title=f"Rows: {at:,}", plan=plan, axis="rows", at=at)


PARTS: dict[str, Callable[[Choices], list[Scene]]] = {
    "throughput": throughput,
    "tls": tls,
    "memory": memory,
    "tiny": tiny,
    "stall": stall,
    "growth": growth,
    "rows": rows,
}
"""Functions that return a part's scenes, by name, in the order of their runs."""
