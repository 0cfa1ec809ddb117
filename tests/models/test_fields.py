"""Values against type hints; the meanings of fields."""

import dataclasses

import pytest

from insgenel_jax.icl.settings import IclSettings
from insgenel_jax.linker.settings import Settings, explain_settings
from insgenel_jax.models.fields import expected_type, meanings
from insgenel_jax.training import settings


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


@dataclasses.dataclass
class Thing:
    """A thing, whose other: is no field.

    length, width (in cm): how
    large it is. colour: "red", or note: that one is no field either.

    More about it. weight: in kg
    """

    length: int
    width: int
    colour: str
    weight: float


def test_meanings_stand_in_the_docstring():
    size = "(in cm) how large it is."
    assert meanings(Thing) == {
        "length": size,
        "width": size,
        "colour": '"red", or note: that one is no field either.',
        "weight": "in kg",
    }


def test_every_setting_has_a_meaning():
    for cls, told in (
        (Settings, explain_settings()),
        (IclSettings, meanings(IclSettings)),
    ):
        assert {field.name for field in dataclasses.fields(cls)} == told.keys()
    defaults, told = settings.explain_settings()
    assert defaults.keys() == told.keys()
    assert not [name for name in told if not told[name]]
    assert {"task", "model.lora.rank", "data.golds", "loop.steps"} <= told.keys()
