"""Which steps are profiled, and that a short run ends its profile."""

from insgenel_jax.training import profile


def test_steps_two_to_six_are_profiled(monkeypatch, tmp_path):
    done, seen = [], []
    monkeypatch.setattr(
        profile.jax.profiler, "start_trace", lambda at: seen.append(("from", len(done)))
    )
    monkeypatch.setattr(
        profile.jax.profiler, "stop_trace", lambda: seen.append(("to", len(done)))
    )
    waits = []
    profiled = profile.Profile(tmp_path, lambda: waits.append(len(done)))
    for step in range(8):
        done.append(step)
        profiled.count()
    profiled.close()
    assert seen == [("from", 1), ("to", 6)] and waits == [1, 6]
    short = profile.Profile(tmp_path, lambda: None)
    short.count()
    short.close()
    assert seen[2:] == [("from", 8), ("to", 8)]


def test_without_a_folder_and_in_other_processes_nothing_is(monkeypatch, tmp_path):
    monkeypatch.setattr(profile.jax.profiler, "start_trace", None)  # cannot be called
    profile.Profile(None, lambda: None).count()
    monkeypatch.setattr(profile.jax, "process_index", lambda: 1)
    profile.Profile(tmp_path, lambda: None).count()
