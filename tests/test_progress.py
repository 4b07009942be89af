import pytest

from ranklock import progress as module
from ranklock.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that have passed, set by hand."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    hands = Clock()
    monkeypatch.setattr(module, "time", hands)
    return hands


def test_the_time_left_is_at_the_pace_of_this_process(clock, capsys):
    """What was done before says nothing of it: a resumed run is no faster than it is."""
    with progress(100, "shards", shown=True) as advance:
        advance(80, done_before=True)
        clock.now = 60.0
        advance(2)
        clock.now = 120.0
        advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "82 of 100 shards, about 9 min left",
        "84 of 100 shards, about 8 min left",
    ]


def test_lines_are_ten_seconds_apart_and_go_to_stderr(clock, capsys):
    with progress(100, "cells", shown=True) as advance:
        for _ in range(40):
            clock.now += 1.0
            advance(1)
    written = capsys.readouterr()
    assert len(written.err.splitlines()) == 4
    assert written.out == ""


def test_nothing_is_shown_unless_asked_for(clock, capsys):
    with progress(3, "cells", shown=False) as advance:
        clock.now = 100.0
        advance(1)
        advance(1, done_before=True)
    assert capsys.readouterr().err == ""
