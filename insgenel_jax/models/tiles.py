"""The mask of packed rows: many rows of unequal lengths as one sequence of tokens.

A pack is N new tokens, those of one row after those of another, with no padding between
them. Their keys lie in a KV cache of pages, each of one row; so rows take and give back
pages as they begin and end. For attention alone, the tokens of a row are laid out in
tiles of Q queries, and each tile gets the pages of its row, W slots in order.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from insgenel_jax.sharding import AnyArray


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("pages", "tokens", "seen", "place"),
    meta_fields=("page",),
)
@dataclasses.dataclass(frozen=True)
class Tiles:
    """D packs of N tokens in G tiles each.

    pages: of the row of each tile, by their numbers in the pack's cache. tokens: the
    token of each query; those of queries that are padding do not matter. seen: which of
    the row's slots a query sees. place: the query, counted over all tiles, of each
    token. page: slots of a page.
    """

    pages: Int[AnyArray, "D G P"]
    tokens: Int[AnyArray, "D G Q"]
    seen: Bool[AnyArray, "D G Q W"]
    place: Int[AnyArray, "D N"]
    page: int

    def keys(self, cached: Shaped[AnyArray, "D S *x"]) -> Shaped[Array, "D G W *x"]:
        """What is cached in the slots of each tile's row."""
        D, _, *rest = cached.shape
        paged = cached.reshape(D, -1, self.page, *rest)
        found = jax.vmap(lambda of_pack, pages: of_pack[pages])(paged, self.pages)
        return found.reshape(D, self.pages.shape[1], -1, *rest)

    def queries(self, packed: Shaped[AnyArray, "D N *x"]) -> Shaped[Array, "D G Q *x"]:
        """What tokens have, laid out in tiles."""
        return jax.vmap(lambda x, at: jnp.take(x, at, axis=0, mode="clip"))(
            packed, self.tokens
        )

    def packed(self, tiled: Shaped[AnyArray, "D G Q *x"]) -> Shaped[Array, "D N *x"]:
        """What queries have, as one sequence of tokens again."""
        D, G, Q, *rest = tiled.shape
        flat = tiled.reshape(D, G * Q, *rest)
        return jax.vmap(lambda x, at: jnp.take(x, at, axis=0, mode="clip"))(
            flat, self.place
        )

    def __and__(self, seen: Bool[AnyArray, "D G Q W"]) -> Tiles:
        """The mask that allows what both this one and `seen`, say a window, allow."""
        return dataclasses.replace(self, seen=self.seen & seen)
