from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from benchmarks.contenders import NAMES
from benchmarks.scenes import PARTS, Choices, compared, enough

QUICK = Choices(quick=True)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("choices", [Choices(), QUICK])
def test_a_part_runs_existing_contenders_and_judges_only_those(part: str, choices: Choices) -> None:
    for scene in PARTS[part](choices):
        assert set(scene.plan.contenders) == set(scene.plan.images) <= {*NAMES}
        for target in scene.targets:
            assert {target.who, target.beside or target.who} <= set(scene.plan.contenders)


@pytest.mark.parametrize("part", ["throughput", "tls", "tiny", "stall"])
def test_targets_are_judged_by_five_runs(part: str) -> None:
    assert [scene.plan.rounds for scene in PARTS[part](Choices())] == [5]


@pytest.mark.parametrize("part", PARTS)
def test_the_chosen_settings_apply_to_every_scene(part: str) -> None:
    choices = Choices(contenders=("ours",), rounds=2, images=64, limit=9.0, latency=0.5)
    for scene in PARTS[part](choices):
        plan = scene.plan
        assert (plan.contenders, plan.rounds, plan.images) == (("ours",), 2, {"ours": 64})
        assert (plan.limit, plan.latency) == (9.0, 0.5)


@pytest.mark.parametrize("part", ["throughput", "memory", "tiny"])
def test_two_checkouts_alternate_and_differ_by_at_most_a_twentieth(part: str) -> None:
    for scene in PARTS[part](Choices(against=Path("earlier"))):
        plan, judged = scene.plan, compared(scene)
        ours = [name for name in plan.contenders if not name.endswith("@earlier")]
        assert ours
        assert plan.contenders == tuple(each for name in ours for each in (name, f"{name}@earlier"))
        assert all(plan.images[name] == plan.images[f"{name}@earlier"] for name in ours)
        assert {(target.who, target.beside) for target in judged.targets} == {
            (name, f"{name}@earlier") for name in ours
        }
        assert {str(target.limit) for target in judged.targets} == {"≥ 0.95", "≤ 1.05"}


def test_size_n_and_concurrency_are_taken_where_the_part_has_its_own() -> None:
    (scene,) = PARTS["memory"](Choices(size=20_000, n=2, concurrency=50))
    plan = scene.plan
    assert (plan.size, plan.n, plan.concurrency, plan.hold, plan.images["ours"]) == (20_000, 2, 50, 50, 100)
    (tiny,) = PARTS["tiny"](Choices(size=2_000))
    assert tiny.plan.size == 2_000


def test_all_requests_of_a_memory_run_are_in_flight_together() -> None:
    for scene in PARTS["memory"](Choices()):
        plan = scene.plan
        assert plan.hold == plan.concurrency
        assert set(plan.images.values()) == {plan.concurrency * plan.n}
        assert plan.warm_up > plan.hold, "a client begins with few requests in flight"
        assert plan.small_warm_up, "what the warm-up takes would be the peak"


def test_growth_changes_one_parameter_at_a_time() -> None:
    fields = {"in flight": "concurrency", "size": "size", "n": "n"}
    for scene in PARTS["growth"](Choices()):
        plan = attrs.asdict(scene.plan)
        for axis, field in fields.items():
            usual = {"in flight": 32, "size": 1_500_000, "n": 1}[axis]
            assert plan[field] == (scene.at if axis == scene.axis else usual)


def test_growth_reaches_from_the_least_to_the_most() -> None:
    points: dict[str, list[float]] = {}
    for scene in PARTS["growth"](Choices()):
        points.setdefault(scene.axis, []).append(scene.at)
    assert {axis: (min(at), max(at)) for axis, at in points.items()} == {
        "in flight": (8, 1_024),
        "size": (10_000, 20_000_000),
        "n": (1, 4),
    }


def test_rows_grow_in_tens_and_all_that_grows_is_the_run() -> None:
    scenes = PARTS["rows"](Choices())
    assert [scene.at for scene in scenes] == [1_000, 10_000, 100_000]
    for scene in scenes:
        assert set(scene.plan.images.values()) == {scene.at}
        assert (scene.plan.size, scene.plan.concurrency, scene.plan.n) == (1_000, 32, 1)


def test_a_run_has_at_least_as_many_images_as_requests_in_flight() -> None:
    assert enough("openai-python", size=20_000_000, least=128) == 128
    assert enough("openai-python", size=1_500_000, least=32) == 120


def test_the_conditions_name_the_special_settings() -> None:
    (tls,) = PARTS["tls"](Choices())
    (stall,) = PARTS["stall"](Choices())
    assert "over TLS" in tls.conditions
    assert "a disk that stalls 50 ms at a time" in stall.conditions
    assert "all answered at once when 300 wait" in PARTS["memory"](Choices())[0].conditions
