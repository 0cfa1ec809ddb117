"""A job that is told to stop finishes what it has begun, and its status says so."""

import contextlib
import gc
import itertools
import os
import signal
import sys
import time

import pytest

from insgenel_jax.stopping import Stopped, stop_requests, unswallowed_interrupts
from insgenel_jax.text.document import Document
from insgenel_jax.text.formats.documents import write_documents

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def work(items, group=4):
    """Results in groups; a signal comes in the second, and what it raises is lost."""
    while batch := list(itertools.islice(items, group)):
        if batch[0].id == "4":
            with contextlib.suppress(BaseException):  # as a callback of JAX does
                os.kill(os.getpid(), work.signal)
        yield from batch


@pytest.mark.parametrize("number", SIGNALS)
def test_the_group_is_finished(tmp_path, number):
    work.signal, done, before = number, [], signal.getsignal(signal.SIGINT)
    documents = (Document(str(i), "Paris") for i in itertools.count())
    with stop_requests() as stop, pytest.raises(Stopped, match="8 documents") as told:
        results = stop.results(work(stop.inputs(documents)))
        write_documents(tmp_path / "out", (done.append(d) or d for d in results))
    assert told.value.signal == number and len(done) == 8
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", SIGNALS)
def test_waiting_for_input_that_never_comes_ends(number):
    def documents():
        yield 1
        os.kill(os.getpid(), number)
        raise AssertionError("not reached")

    with stop_requests() as stop:
        assert list(stop.inputs(documents())) == [1]
        with pytest.raises(Stopped):
            stop.check()


def test_a_second_signal_acts_at_once():
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_all_goes_on_where_no_signal_comes():
    with stop_requests() as stop:
        assert list(stop.results(stop.inputs([1, 2]))) == [1, 2]


def test_an_interrupt_in_a_callback_comes_again():
    """Python drops what is raised there; JAX has such a callback."""

    def interrupt(phase, info):
        gc.callbacks.remove(interrupt)
        signal.raise_signal(signal.SIGINT)

    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), unswallowed_interrupts():
            gc.callbacks.append(interrupt)
            gc.collect()
            began = time.monotonic()
            time.sleep(10)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sys.unraisablehook is hook
    assert time.monotonic() - began < 5  # the wait was broken off
