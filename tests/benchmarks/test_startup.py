from __future__ import annotations

from benchmarks.startup import HELP, STATEMENTS, Started, rows, verdict

FOUND = {
    **{name: [Started(seconds=0.1, cpu_seconds=0.09)] for name in STATEMENTS},
    "the client": [Started(seconds=0.12, cpu_seconds=0.1, optional=("isal",))],
    HELP: [Started(seconds=each, cpu_seconds=0.2) for each in (0.2, 0.3, 0.26)],
}


def test_each_start_stands_beside_the_yardsticks() -> None:
    _, *table = rows(FOUND)
    assert ["import aiohttp", "100", "90", "1.00", "–"] in table
    assert ["the client", "120", "100", "1.20", "isal"] in table
    assert [HELP, "260", "200", "–", "–"] in table


def test_the_verdict_is_on_the_import_and_on_help() -> None:
    assert verdict(FOUND) == [
        "import imagen_async ÷ import aiohttp: 1.00 (≤ 1.15) – reached",
        "the client ÷ import aiohttp: 1.20",
        "imagen-async --help ms: 260 (≤ 250) – missed",
    ]
