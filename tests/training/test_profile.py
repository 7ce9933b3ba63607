"""The trace of some steps, always ended."""

import jax
import pytest

from gen_jax.training.profile import Profile


@pytest.fixture
def traced(monkeypatch):
    """What was called of JAX's profiler."""
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    return calls


def steps_of(profile, calls, start, last):
    """Goes through a run and returns the steps between start and stop of the trace."""
    inside = []
    with profile:
        for step in range(start + 1, last + 1):
            profile.before(step)
            if calls == ["start"]:
                inside.append(step)
            profile.after(step, ())
    return inside


@pytest.mark.parametrize(
    "start,last,steps,want",
    [
        (0, 100, 3, [10, 11, 12]),  # once it is in full swing
        (20, 100, 2, [30, 31]),  # of a resumed run, too
        (0, 11, 4, [8, 9, 10, 11]),
        (0, 4, 3, [2, 3, 4]),
        (0, 2, 5, [1, 2]),
    ],
)
def test_traces_as_many_steps_as_there_are(tmp_path, traced, capsys, start, last, steps, want):
    assert steps_of(Profile(tmp_path, start, last, steps), traced, start, last) == want
    assert traced == ["start", "stop"]
    out = capsys.readouterr().out
    assert f"wrote a profile to {tmp_path / 'profile'}" in out
    assert ("the run has 2 steps, all are traced" in out) == (steps > last - start)


def test_no_trace_unless_asked_for(tmp_path, traced):
    steps_of(Profile(tmp_path, 0, 100, 0), traced, 0, 100)
    assert traced == []


def test_an_exception_ends_the_trace(tmp_path, traced):
    with pytest.raises(KeyError), Profile(tmp_path, 0, 100, 5) as profile:
        profile.before(10)
        raise KeyError
    assert traced == ["start", "stop"]
