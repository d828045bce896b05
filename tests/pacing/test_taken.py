from __future__ import annotations

from imagen_async.pacing.taken import Taken


def test_what_was_refused_was_not_taken() -> None:
    taken = Taken(memory=60.0)
    for number in range(10):
        taken.add(number, now=number / 10)
    taken.remove(3)
    assert 3 not in taken
    assert 4 in taken
    assert taken.rate(until=1.0, before=8, seconds=1.0) == 6.0


def test_what_left_long_ago_does_not_count() -> None:
    taken = Taken(memory=60.0)
    for number in range(10):
        taken.add(number, now=float(number))
    assert taken.rate(until=9.0, before=10, seconds=2.0) == 1.0


def test_it_remembers_no_longer_than_it_has_to() -> None:
    taken = Taken(memory=5.0)
    for number in range(1000):
        taken.add(number, now=float(number))
    assert [number in taken for number in (999, 990)] == [True, False]
