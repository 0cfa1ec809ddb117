import pytest

from insgenel_jax.kb.build.processes import ordered_map
from insgenel_jax.text.formats.rejects import InputError


def test_results_come_in_order():
    items = [10**6, *range(12)]
    assert list(ordered_map(_slow, items, 2)) == list(ordered_map(_slow, items, 1))


def _slow(count):
    return sum(range(count)), count


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # Ray starts by it
def test_a_cluster_that_does_not_answer_and_an_error_on_one():
    with pytest.raises(InputError, match="--cluster localhost:1: expected the address"):
        next(ordered_map(_slow, [1], "localhost:1"))
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        list(ordered_map(_slow, [3, "three"], "local"))
