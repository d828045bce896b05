"""Draw ``assets/attempt.svg`` and ``assets/circuit.svg``, the states of a request: ``python docs/draw_states.py``.

Boxes at fixed places, arrows along right angles. It is SVG and not Mermaid, for a page of the site that shows Mermaid
fetches its script from elsewhere. A test compares the files with what is drawn here, and their words with the code's.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import attrs

__all__ = ["PICTURES", "attempt", "circuit"]

ASSETS = Path(__file__).parent / "assets"
_HIGH = 44
_COLOURS = {
    "way": ("#e0f2f1", "#00796b"),
    "trouble": ("#fff3e0", "#b26a00"),
    "end": ("#eceff1", "#455a64"),
}
"""Fill and line of a box: on the way, in trouble, at its end."""

_PAGE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>{title}</title>
<style>
text {{ font-family: ui-sans-serif, "DejaVu Sans", Arial, sans-serif; font-size: 11.5px; fill: #37474f;
  text-anchor: middle; }}
.name {{ font-size: 13px; font-weight: bold; fill: #102027; }}
.line {{ fill: none; stroke: #546e7a; stroke-width: 1.4; marker-end: url(#head); }}
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0,0 L8,4 L0,8 z" fill="#546e7a"/></marker></defs>
<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>
{parts}
</svg>
"""


@attrs.frozen
class Box:
    """A state: its middle, its width, its name, a line that explains it, and what it is."""

    x: int
    y: int
    wide: int
    name: str
    about: str
    kind: str = "way"
    high: int = _HIGH

    def __str__(self) -> str:
        fill, line = _COLOURS[self.kind]
        left, top = self.x - self.wide // 2, self.y - self.high // 2
        radius = self.high // 2 if self.kind == "end" else 6
        return (
            f'<rect x="{left}" y="{top}" width="{self.wide}" height="{self.high}" rx="{min(radius, _HIGH // 2)}" '
            f'fill="{fill}" stroke="{line}"/>\n'
            f"{_text(self.x, self.y - 3, self.name, 'name')}\n{_text(self.x, self.y + 14, self.about)}"
        )


def _text(x: int, y: int, words: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}"{named}>{escape(words)}</text>'


def _arrow(*points: tuple[int, int]) -> str:
    return f'<path class="line" d="M{" L".join(f"{x},{y}" for x, y in points)}"/>'


def _drawn(title: str, width: int, height: int, *parts: object) -> str:
    return _PAGE.format(width=width, height=height, title=escape(title), parts="\n".join(map(str, parts)))


def attempt() -> str:
    """Draw what may become of one request of a job."""
    rows = (60, 140, 220, 300, 380, 460, 540)
    classes = (
        ("saved", "200, every image is whole", "way"),
        ("filtered", "200, fewer images than asked", "trouble"),
        ("refused", "429; 503 with Retry-After", "trouble"),
        ("never_sent", "no connection", "trouble"),
        ("ambiguous", "sent, no usable response", "trouble"),
        ("rejected", "400, 404, 413, 422 …", "trouble"),
        ("fatal", "401, 402, 403, 3xx, no model", "trouble"),
    )
    boxes = [
        Box(95, 140, 150, "waiting", "for a permit"),
        Box(95, 260, 150, "permit", "held, intent durable"),
        Box(95, 380, 150, "in flight", "the request is sent"),
        *(Box(325, y, 190, name, about, kind) for y, (name, about, kind) in zip(rows, classes, strict=True)),
        Box(565, 140, 180, "top-up", "asks for what was filtered"),
        Box(565, 220, 180, "pause", "everybody waits"),
        Box(565, 300, 180, "backoff", "only this job waits"),
        Box(565, 380, 180, "doubt", "written down, with its cost"),
        Box(835, 60, 190, "succeeded", "all images", "end"),
        Box(835, 140, 190, "filtered, partial", "no top-up is left", "end"),
        Box(835, 260, 190, "failed", "max_elapsed, max_attempts", "end", 124),
        Box(835, 380, 190, "in_doubt, partial", "tried again once already", "end"),
        Box(835, 460, 190, "failed", "never tried again", "end"),
        Box(835, 540, 190, "everything stops", "the error is raised", "end"),
    ]
    arrows = [
        _arrow((95, 162), (95, 238)),
        _arrow((95, 282), (95, 358)),
        *(_arrow((170, 380), (200, 380), (200, y), (230, y)) for y in rows),
        _arrow((420, 60), (740, 60)),
        *(_arrow((420, y), (475, y)) for y in rows[1:5]),
        *(_arrow((420, y), (740, y)) for y in rows[5:]),
        *(_arrow((655, y), (740, y)) for y in rows[1:5]),
        # Back to the queue: up beside the boxes, and over the top.
        *(_arrow((655, y), (685, y), (685, 22), (95, 22), (95, 118)) for y in rows[1:4]),
        _arrow((565, 358), (565, 322)),
    ]
    words = [
        _text(142, 197, "window, rate,"),
        _text(142, 211, "pauses, circuit"),
        _text(390, 16, "asks for the images that are still missing; a refusal has used no attempt"),
        _text(592, 345, "once"),
    ]
    return _drawn("The states of one request of a job", 950, 580, *arrows, *boxes, *words)


def circuit() -> str:
    """Draw the circuit that opens in an outage."""
    boxes = [
        Box(110, 110, 170, "closed", "500 tokens, 5 a retry"),
        Box(380, 110, 170, "open", "nothing leaves", "trouble"),
        Box(650, 110, 170, "probing", "one request is under way", "trouble"),
        Box(860, 230, 170, "exhausted", "OutageError; resumable", "end"),
    ]
    arrows = [
        _arrow((195, 110), (295, 110)),
        _arrow((465, 110), (565, 110)),
        _arrow((650, 132), (650, 175), (410, 175), (410, 132)),
        _arrow((650, 88), (650, 40), (110, 40), (110, 88)),
        _arrow((350, 132), (350, 230), (775, 230)),
    ]
    words = [
        _text(245, 90, "40 left, or 50"),
        _text(245, 102, "failures in a row"),
        _text(515, 90, "after 1, 2, 4"),
        _text(515, 102, "… 30 s"),
        _text(530, 168, "no response, or a 5xx"),
        _text(380, 33, "any response but a 5xx, a 429 included"),
        _text(560, 223, "the 40 tokens for probes are used up"),
    ]
    return _drawn("The states of the circuit", 960, 270, *arrows, *boxes, *words)


PICTURES = {"attempt.svg": attempt, "circuit.svg": circuit}
"""The files, by name."""


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (ASSETS / name).write_text(draw(), encoding="utf-8")
