"""The reader of strace's logs."""

from __future__ import annotations

import pytest

from tests.torture.tracing import Point, injection, points

JOURNAL_THREAD = """\
mkdir("/home/out", 0777)                = 0
openat(AT_FDCWD</home>, "/home/out/.imagen/journal.sqlite", O_RDONLY|O_CLOEXEC) = 7</home/out/.imagen/journal.sqlite>
openat(AT_FDCWD</home>, "/home/out/.imagen/journal.sqlite", O_RDWR|O_CREAT, 0644) = 7</home/out/.imagen/journal.sqlite>
pwrite64(7</home/out/.imagen/journal.sqlite>, ""..., 4096, 0) = 4096
pwrite64(7</home/out/.imagen/journal.sqlite>, ""..., 4096, 4096) = 4096
write(1<pipe:[1]>, ""..., 20)           = 20
write(3</home/outside>, ""..., 20)      = 20
--- SIGCHLD {si_signo=SIGCHLD} ---
+++ exited with 0 +++
""".splitlines()
WRITER_THREAD = """\
pwrite64(7</home/out/.imagen/journal.sqlite>, ""..., 4096, 0) = 4096
link("/home/out/tmp/a.partial", "/home/out/images/3f/a-0.png") = 0
link("/home/out/tmp/b.partial", "/home/out/images/3f/a-0.png") = -1 EEXIST (File exists)
unlink("/home/out/tmp/a.partial")       = 0
""".splitlines()


def test_each_call_that_changes_the_folder_is_a_point_counted_by_thread_and_path() -> None:
    assert [str(point) for point in points([JOURNAL_THREAD, WRITER_THREAD], "/home/out")] == [
        "link:tmp/a.partial:1",
        "link:tmp/b.partial:1",
        "mkdir:.:1",
        # The first opening changes nothing, but strace counts it.
        "openat:.imagen/journal.sqlite:2",
        # Two threads' first calls are one point: whichever comes first is stopped.
        "pwrite64:.imagen/journal.sqlite:1",
        "pwrite64:.imagen/journal.sqlite:2",
        "unlink:tmp/a.partial:1",
    ]


def test_a_call_on_two_paths_counts_for_both() -> None:
    log = ['rename("/out/b", "/out/c") = 0', 'rename("/out/c", "/out/d") = 0']
    assert [str(point) for point in points([log], "/out")] == ["rename:b:1", "rename:c:2"]


@pytest.mark.parametrize("text", ["fsync:.:1", "pwrite64:.imagen/journal.sqlite-wal:17"])
def test_a_point_is_read_back_as_it_was_written(text: str) -> None:
    assert str(Point.parsed(text)) == text


@pytest.mark.parametrize(("on", "when"), [(False, "3"), (True, "3+")])
def test_an_injection_is_for_one_call_on_one_path_at_or_from_a_number(*, on: bool, when: str) -> None:
    command = injection(7, "log", Point("fsync", "a", 3), folder="/out", what="error=EIO", on=on)
    assert command[-6:] == ["-P", "/out/a", "-e", "trace=fsync", "-e", f"inject=fsync:error=EIO:when={when}"]
