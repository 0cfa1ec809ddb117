"""What training tells where no terminal is."""

import io

import pytest
from rich.console import Console

from insgenel_jax.training import metrics


def test_a_log_gets_a_line_for_each_update_at_once(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(metrics, "CONSOLE", Console(file=stream, width=20))
    with metrics.show_progress(10, 40) as update:
        update(20, 1.25, 3000.0)
        first, end = stream.getvalue().split("\n")
        assert first.startswith("step 20/40  loss 1.2500  3,000 tokens/s  ETA 0:00:0")
        assert end == ""
        update(30, 1.0, 3000.0)
    assert stream.getvalue().count("\n") == 2


def test_numbers_for_tensorboard_lie_beside_the_log(tmp_path):
    pytest.importorskip("tensorboardX")
    log = metrics.MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write(3, loss=1.5, evaluation={"open recall": 0.5}, header={"mesh": "data 1"})
    log.close()
    [file] = (tmp_path / "tensorboard").iterdir()
    written = file.read_bytes()
    assert b"loss" in written and b"evaluation/open_recall" in written
    assert b"mesh" not in written


def test_of_a_log_what_can_be_read_stays_up_to_a_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    kept = ['{"step": 1, "loss": 2.0}', '{"step": 2, "loss": 1.0}']
    bad = [b"{", b"[]", b"{}", b'{"step": "x"}', b"\0\0", b"\xff", b'{"step": 3}']
    path.write_bytes(b"\n".join([kept[0].encode(), *bad, kept[1].encode(), b""]))
    metrics.MetricsLog(path, 2).write(3, loss=0.5)
    assert path.read_text().splitlines() == [*kept, '{"step": 3, "loss": 0.5}']
