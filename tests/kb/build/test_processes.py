from insgenel_jax.kb.build.processes import ordered_map


def test_results_come_in_order():
    items = [10**6, *range(12)]
    assert list(ordered_map(_slow, items, 2)) == list(ordered_map(_slow, items, 1))


def _slow(count):
    return sum(range(count)), count
