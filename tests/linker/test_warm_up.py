"""What warming up compiles, what a linker says of itself, and forks."""

import os

import jax
import pytest

from insgenel_jax.linker import Linker
from insgenel_jax.linker.warm_up import make_texts
from insgenel_jax.text.document import Document


@pytest.fixture(scope="module")
def linker(linker_path):
    return Linker.from_pretrained(linker_path, batch=2)


def test_nothing_is_compiled_after_warming_up(linker):
    text = "Paris and Java."
    linker.warm_up([text])
    assert linker.stats.total() == 0
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **more: compiled.append(event)
    )
    linker([text, text])
    assert linker.stats["calls"] > 0
    assert not [event for event in compiled if "backend_compile" in event]


def test_the_texts_get_longer_than_a_chunk(linker):
    lengths = [len(text.split()) for text in make_texts(linker)]
    assert lengths[:3] == [8, 16, 32]
    assert lengths[-2] <= linker.generator.chunk_tokens < lengths[-1]


def test_a_linker_says_what_it_is(linker):
    shown = repr(linker)
    assert shown.startswith(f"<Linker insgenel-r: {len(linker.kb):,} entities, ")
    assert "llama, float32), decoder tree>" in shown


def test_a_fork_is_told_to_open_a_linker_of_its_own(linker, monkeypatch):
    """It would wait for ever for threads that a fork does not have."""
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    for one in (linker, linker.with_settings(threshold=0.5)):
        with pytest.raises(RuntimeError, match=f"opened in process {parent}, .* fork"):
            one("Paris")
        with pytest.raises(RuntimeError, match="fork"):
            one.explain("Paris")
        with pytest.raises(RuntimeError, match="fork"):
            one.candidates([Document("1", "Paris")])
