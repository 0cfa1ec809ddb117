"""A chunk of a text, ready to decode: what every decoder is given."""

from __future__ import annotations

import dataclasses

from insgenel_jax.decoding.table import Table


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What the generator reads, what it must copy, and what it may write.

    prompt: BOS, the instruction, the text and EOS, as token ids. source: the source
    tokens of the target, then EOS; only beam search reads them. table: the transition
    table over the same source tokens.
    """

    prompt: list[int]
    source: list[int]
    table: Table
