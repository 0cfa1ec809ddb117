"""The type checker that tests/conftest.py gives to jaxtyping's import hook."""

import beartype
from beartype import BeartypeConf, FrozenDict
from flax.linen.linear import PromoteDtypeFn

check = beartype.beartype(
    conf=BeartypeConf(
        # flax annotates a field of its modules with a protocol that cannot be checked
        hint_overrides=FrozenDict({PromoteDtypeFn: object}),
        # where a float is expected an int will do, as for every type checker
        is_pep484_tower=True,
    )
)
