"""The batch size that is found, with a clock of our own."""

import pytest

from insgenel_jax.jobs import measure
from insgenel_jax.jobs.measure import FIRST, LONG, Measured, measure_batch
from insgenel_jax.linker import Linker
from insgenel_jax.linker.settings import Settings
from insgenel_jax.text.document import Document

DOCUMENTS = [Document(str(i), "") for i in range(256)]


class JaxRuntimeError(RuntimeError):
    """By its name, what JAX raises."""


def run(monkeypatch, seconds, each=1e9, documents=DOCUMENTS):
    """Measure where a document takes seconds(batch), which may raise."""
    clock = [0.0]

    def link(linker, documents, given):
        clock[0] += len(documents) * seconds(linker.settings.batch)

    monkeypatch.setattr(measure, "link_documents", link)
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    linker = Linker.__new__(Linker)
    linker.settings = Settings(batch=16)
    return measure_batch(linker, documents, False, each), clock[0]


@pytest.mark.parametrize(
    ("seconds", "batch", "tried"),
    [
        (lambda batch: 0.1 / min(batch, 64), 64, [16, 32, 64, 128]),
        (lambda batch: 0.001 * max(batch, 4), 4, [16, 32, 8, 4, 2]),
        (lambda batch: 0.001 * max(batch, 16), None, [16, 32, 8]),
        (lambda batch: 0.1 / (batch + 1000), None, [16, 32, 8]),  # by less than 5 %
        (lambda batch: 0.001 / batch, 256, [16, 32, 64, 128, 256]),  # of the sample
    ],
)
def test_the_fastest_batch_is_found(monkeypatch, seconds, batch, tried):
    measured, _ = run(monkeypatch, seconds)
    assert measured.batch == batch and list(measured.rates) == [str(b) for b in tried]


def test_memory_ends_the_doubling(monkeypatch):
    def seconds(batch):
        if batch > 32:
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return 0.1 / batch

    assert run(monkeypatch, seconds)[0].batch == 32

    def broken(batch):
        return {16: 1.0}[batch]

    with pytest.raises(KeyError):
        run(monkeypatch, broken)


@pytest.mark.parametrize("error", [KeyError(), JaxRuntimeError("Out of memory")])
def test_a_document_that_cannot_be_linked_ends_no_job(monkeypatch, error):
    """Its shard rejects it, or takes a smaller batch."""

    def link(linker, documents, given):
        raise error

    monkeypatch.setattr(measure, "link_documents", link)
    linker = Linker.__new__(Linker)
    linker.settings = Settings(batch=16)
    assert measure_batch(linker, DOCUMENTS, False, 1e9) == Measured(None, {})


def test_short_jobs_are_not_measured(monkeypatch):
    measured, took = run(monkeypatch, lambda batch: 0.5, each=LONG * 2)
    assert measured.batch is None and took > 2 * FIRST * 0.5
    measured, took = run(monkeypatch, lambda batch: 0.5, each=LONG * 2 - 1)
    assert measured == Measured(None, {}) and took == 2 * FIRST * 0.5
    assert run(monkeypatch, lambda batch: 0.5, documents=[])[0] == Measured(None, {})
