"""Settings, the queue and what the server refuses before it reads a model."""

import socket
import threading

import pytest

from gen_jax.common.errors import UserError
from gen_jax.web import app
from gen_jax.web.settings import WebSettings
from gen_jax.web.work import QueueFull, WorkQueue
from tests.forks import call_each
from tests.processes import one_line_error


@pytest.mark.parametrize("values", [{"max_num": 0}, {"walk_steps": 1}, {"queue_size": -1}])
def test_settings_out_of_range_are_refused(values):
    (name,) = values
    with pytest.raises(UserError, match=f"settings.{name}="):
        WebSettings(**values)


def test_the_queue_runs_jobs_in_order_and_refuses_when_full():
    work, gate, done = WorkQueue(3), threading.Event(), []
    first = work.submit(gate.wait, 10)
    others = [work.submit(done.append, index) for index in range(2)]
    with pytest.raises(QueueFull, match="3 requests wait"):
        work.submit(done.append, 3)
    assert others[0].cancel()  # a cancelled job leaves its place
    work.submit(done.append, 4)
    gate.set()
    assert first.result() and work.run(len, done) == 2
    assert done == [1, 4]
    with pytest.raises(ZeroDivisionError):
        work.run(lambda: 1 / 0)
    assert work.run(len, done) == 2


def test_a_closed_queue_refuses():
    work = WorkQueue(1)
    work.close()
    with pytest.raises(QueueFull, match="stopping"):
        work.submit(len, "")
    assert work.pending == 0


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(app._NEEDED, "no_such_module", "no-such-package")
    with pytest.raises(UserError) as error:
        app.create_app(WebSettings(), None)
    assert str(error.value).startswith("no-such-package: not installed")
    assert "pip install 'gen_jax[web]'" in str(error.value)


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port={port}: cannot listen there"):
            app.bind("127.0.0.1", port)


MISTAKES = [
    ((), "--run is missing"),
    (("--run=/nowhere", "--port=0"), "no such folder"),
    (("--run=package:vae_photos", "--port=0"), "is a run of vae, and the page is for runs that"),
    (("--run=/nowhere", "--port=99999"), "from 0 to 65535"),
    (
        ("--run=/nowhere", "--host=192.0.2.1", "--port=0"),
        "--host=192.0.2.1, port=0: cannot listen there",
    ),
    (("--run=/nowhere", "--space=tests"), "--space=tests: is not empty"),
]


def test_mistakes_are_one_line():
    given, words = zip(*MISTAKES)
    for done, expected in zip(call_each("serve", *given), words, strict=True):
        assert expected in one_line_error(done), done.args
