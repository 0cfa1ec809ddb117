"""The checker that jaxtyping's import hook applies to every function in the tests."""

import beartype
from beartype import BeartypeConf, BeartypeHintOverrides
from flax.linen.linear import PromoteDtypeFn

# flax annotates a field of its own modules with a protocol that cannot be checked
_CONF = BeartypeConf(hint_overrides=BeartypeHintOverrides({PromoteDtypeFn: object}))
check = beartype.beartype(conf=_CONF)
