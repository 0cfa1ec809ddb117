"""Values against type hints."""

import pytest

from insgenel_jax.models.fields import expected_type


@pytest.mark.parametrize(
    "value, hint",
    [(1, int), (1, float), (1.5, float), (None, int | None), ("a", str), (True, bool)],
)
def test_what_fits(value, hint):
    assert expected_type(value, hint) is None


@pytest.mark.parametrize(
    "value, hint, expected",
    [
        (True, int, "int"),
        (True, float, "float"),
        (1.0, int, "int"),
        (None, float, "float"),
        (float("nan"), float, "float"),
        (float("inf"), float | None, "float or None"),
        ("1", int | None, "int or None"),
    ],
)
def test_what_does_not_fit(value, hint, expected):
    assert expected_type(value, hint) == expected
