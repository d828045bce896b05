"""What is kept and printed of a part: its scenes, each with table and verdict, as text, Markdown and JSON; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from benchmarks import startup
from benchmarks.table import as_markdown, as_text, rows
from benchmarks.targets import verdict

if TYPE_CHECKING:
    from benchmarks.rounds import Results
    from benchmarks.scenes import Scene

__all__ = ["Section", "kept", "markdown", "of_scene", "of_starts", "text"]


@attrs.frozen(kw_only=True)
class Section:
    """One table of a part, with what is said above and below it, and its figures for a file."""

    title: str
    conditions: str
    table: list[list[str]]
    verdict: list[str]
    figures: dict[str, Any]


def of_scene(scene: Scene, results: Results) -> Section:
    """Return the section for a scene that has run."""
    # Folders of this machine are not part of the results.
    plan = attrs.asdict(scene.plan, filter=lambda field, _: field.name not in {"folder", "against"})
    about = {"title": scene.title, "axis": scene.axis, "at": scene.at, "plan": plan}
    return Section(
        title=scene.title,
        conditions=scene.conditions,
        table=rows(results.runs, results.absent, scene.columns),
        verdict=verdict(scene.targets, results.runs, results.absent),
        figures={**about, **attrs.asdict(results)},
    )


def of_starts(found: dict[str, list[startup.Started]]) -> Section:
    """Tell of what was started."""
    count = len(found[startup.HELP])
    return Section(
        title="Start-up",
        conditions=f"Fresh processes, alternating; imports are timed inside, help outside; median of {count}.",
        table=startup.rows(found),
        verdict=startup.verdict(found),
        figures={"title": "Start-up", "starts": {name: list(map(attrs.asdict, all_)) for name, all_ in found.items()}},
    )


def text(section: Section) -> str:
    """Write a section for a terminal."""
    return "\n".join(["", section.title, section.conditions, "", as_text(section.table), "", *section.verdict])


def markdown(machine: str, sections: list[Section]) -> str:
    """Write a part's page."""
    paragraphs = [machine]
    for section in sections:
        paragraphs += [f"**{section.title}.** {section.conditions}", as_markdown(section.table)]
        paragraphs += ["\n".join(f"- {line}" for line in section.verdict)] if section.verdict else []
    return "\n\n".join(paragraphs) + "\n"


def kept(at: str, machine: str, sections: list[Section]) -> dict[str, Any]:
    """Return the contents of a part's JSON file."""
    return {"at": at, "environment": machine, "scenes": [section.figures for section in sections]}
