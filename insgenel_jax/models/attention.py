"""Attention: what a token may see (Mask), who computes it, and the cache's writes."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as splash,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_mask as splash_mask,
)
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.sharding import BATCH, RULES


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("segments", "lengths", "dense"),
    meta_fields=("causal",),
)
@dataclasses.dataclass(frozen=True)
class Mask:
    """What a query may see, in parts that must all allow it; a part left out allows all.

    causal: query t sees the keys 0 to t. segments: a token sees those of its own
    segment, 0 is padding and not seen. lengths: row b has so many keys, what stands
    behind them is not seen. dense: True where it may be seen, for all that cannot be
    said otherwise (a tree; a cache whose rows are filled unequally).
    """

    causal: bool = False
    segments: Int[Array, "B T"] | None = None
    lengths: Int[Array, " B"] | None = None
    dense: Bool[Array, "B T S"] | None = None

    def __and__(self, seen: Bool[Array, "B T S"]) -> Mask:
        """What this mask and `seen` both allow (a sliding window)."""
        seen = seen if self.dense is None else self.dense & seen
        return dataclasses.replace(self, dense=seen)


# Where each backend runs (None: anywhere), and which parts of a mask it honours.
BACKENDS = {
    "xla": (None, ("causal", "segments", "lengths", "dense")),
    "cudnn": ("gpu", ("causal", "lengths")),
    "splash": ("tpu", ("causal", "segments", "lengths")),
}
_LANES = 128  # splash works on blocks of so many tokens


def attend(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    mask: Mask | Bool[Array, "B T S"],
    backend: str = "auto",
) -> Float[Array, "B T N H"]:
    """Scaled dot-product attention; N / K query heads share one key head.

    The softmax is in float32. A query that may see nothing gets something finite, in
    value and gradient, and of no meaning. Raises ValueError when the backend asked for
    would ignore a part of the mask or cannot run here ("auto" then takes xla).
    """
    mask = mask if isinstance(mask, Mask) else Mask(dense=mask)
    backend = choose_backend(backend, mask, query, key, jax.default_backend())
    compute = {"xla": _attend_xla, "cudnn": _attend_cudnn, "splash": _attend_splash}
    with jax.named_scope(backend):
        return compute[backend](query, key, value, mask)


def choose_backend(setting: str, mask: Mask, query, key, platform: str) -> str:
    """The backend for these shapes on a platform (cpu, gpu, tpu).

    "auto" is the platform's own where nothing speaks against it, else xla. Raises
    ValueError with the reasons that speak against a backend that was asked for.
    """
    if setting == "auto":
        own = (name for name, (where, _) in BACKENDS.items() if where == platform)
        fitting = [b for b in own if not objections(b, mask, query, key, platform)]
        setting = (fitting or ["xla"])[0]
    if problems := objections(setting, mask, query, key, platform):
        raise ValueError(
            f"attention = {setting!r} is refused: {'; '.join(problems)}. Use 'auto'"
        )
    return setting


def objections(backend: str, mask: Mask, query, key, platform: str) -> list[str]:
    """Why this backend would not compute this attention, or would compute another."""
    where, honoured = BACKENDS[backend]
    parts = {f.name: getattr(mask, f.name) for f in dataclasses.fields(mask)}
    said = [n for n, part in parts.items() if part is not None and part is not False]
    (rows, queries, heads, size), (keys, kv_heads) = query.shape, key.shape[1:3]
    problems = []
    if where not in (None, platform):
        problems.append(f"it runs on {where}, this is {platform}")
    problems += [f"it would ignore the mask's {n}" for n in said if n not in honoured]
    if mask.segments is not None and mask.segments.shape[1] != keys:
        problems.append(
            f"the mask has segments of {mask.segments.shape[1]} tokens for {keys} keys"
        )
    if backend == "cudnn":
        if query.dtype not in (jnp.bfloat16, jnp.float16):
            problems.append(f"it takes bfloat16 or float16, not {query.dtype}")
        if size % 8 or size > 128:
            problems.append(f"heads of {size}: not a multiple of 8, at most 128")
    if backend == "splash":
        if queries != keys or queries % _LANES:
            problems.append(
                f"it needs as many queries as keys, a multiple of {_LANES}, found "
                f"{queries} and {keys}"
            )
        if size % 64:
            problems.append(f"heads of {size}: not a multiple of 64")
        mesh = jax.sharding.get_abstract_mesh()
        sizes = {} if mesh.empty else mesh.shape
        batch = math.prod(sizes.get(axis, 1) for axis in BATCH)
        if rows % batch:
            problems.append(f"data x fsdp = {batch} does not divide {rows} rows")
        tensor = sizes.get(RULES["heads"], 1)
        if heads % tensor or kv_heads % tensor:
            problems.append(
                f"tensor = {tensor} does not divide {heads} and {kv_heads} heads"
            )
    return problems


def _attend_xla(query, key, value, mask: Mask):
    """Any mask; the scores of all pairs are formed."""
    seen = to_dense(mask, query.shape[1], key.shape[1])
    groups = query.shape[2] // key.shape[2]
    # heads to the front: on a CPU this halves the time that the products take
    query, key, value = (jnp.moveaxis(x, 2, 1) for x in (query, key, value))
    query = query.reshape(*key.shape[:2], groups, *query.shape[2:])  # [B K G T H]
    scores = jnp.einsum(
        "bkgth,bksh->bkgts", query, key, preferred_element_type=jnp.float32
    )
    scores = jnp.where(seen[:, None, None], scores * query.shape[-1] ** -0.5, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    mixed = jnp.einsum("bkgts,bksh->bkgth", weights, value)
    return jnp.moveaxis(mixed.reshape(mixed.shape[0], -1, *mixed.shape[3:]), 1, 2)


def _attend_cudnn(query, key, value, mask: Mask, implementation: str = "cudnn"):
    """The flash kernel of cuDNN; key heads are shared, not repeated."""
    lengths = mask.lengths
    if lengths is not None:  # a row without keys sees its first one: finite
        lengths = jnp.maximum(lengths, 1).astype(jnp.int32)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        is_causal=mask.causal,
        key_value_seq_lengths=lengths,
        implementation=implementation,
    )


def _attend_splash(query, key, value, mask: Mask, interpret: bool = False):
    """The flash kernel for TPUs; key heads are shared, not repeated.

    Segments are compared for equality alone: padding sees padding, which is finite and
    of no meaning. The kernel is not partitioned by XLA, hence the shard_map.
    """
    rows, tokens, _, size = query.shape
    segments = mask.segments
    if mask.lengths is not None and segments is None:
        segments = jnp.ones((rows, tokens), jnp.int32)
    ids = None if segments is None else splash.SegmentIds(segments, segments)
    if mask.lengths is not None:
        inside = jnp.arange(tokens) < mask.lengths[:, None]
        ids = ids._replace(kv=jnp.where(inside, segments, -1))
    kind = splash_mask.CausalMask if mask.causal else splash_mask.FullMask
    block = next(b for b in (512, 256, _LANES) if tokens % b == 0)
    blocks = splash.BlockSizes(
        **dict.fromkeys(("block_q", "block_q_dkv", "block_q_dq"), block),
        **dict.fromkeys(("block_kv", "block_kv_dkv", "block_kv_dq"), block),
    )

    def run(query, key, value, ids):
        heads = splash_mask.MultiHeadMask([kind((tokens, tokens))] * query.shape[1])
        kernel = splash.make_splash_mha(
            heads,
            block_sizes=blocks,
            head_shards=1,
            q_seq_shards=1,
            interpret=interpret,
        )
        return jax.vmap(kernel)(query, key, value, ids)

    if not jax.sharding.get_abstract_mesh().empty:
        heads = P(BATCH, RULES["heads"])
        run = jax.shard_map(
            run,
            in_specs=(heads, heads, heads, P(BATCH)),
            out_specs=heads,
            check_vma=False,
        )
    query, key, value = (jnp.moveaxis(x, 2, 1) for x in (query, key, value))
    return jnp.moveaxis(run(query * size**-0.5, key, value, ids), 1, 2)


def to_dense(mask: Mask, queries: int, keys: int) -> Bool[Array, "B T S"]:
    """The mask as one array; of one row where it is the same for all rows."""
    seen = jnp.ones((1, queries, keys), bool) if mask.dense is None else mask.dense
    if mask.causal:
        seen &= jnp.arange(queries)[:, None] >= jnp.arange(keys)
    if (segments := mask.segments) is not None:
        seen &= segments[:, :, None] == segments[:, None, :]
        seen &= (segments > 0)[:, :, None]
    if mask.lengths is not None:
        seen &= jnp.arange(keys) < mask.lengths[:, None, None]
    return seen


def causal_mask(segments: Int[Array, "B T"]) -> Mask:
    """Each token sees itself and what stands before it in its own segment.

    Segment 0 is padding: it sees nothing and is not seen.
        segments 1 1 2 2 0      1 . . . .
                                1 1 . . .
                                . . 1 . .
                                . . 1 1 .
                                . . . . .
    """
    return Mask(causal=True, segments=segments)


def extend_cache(
    cache: dict,
    layer: Int[Array, ""],
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
) -> tuple[dict, Float[Array, "B S K H"], Float[Array, "B S K H"]]:
    """Put row b's new keys and values of one layer at slots length[b] + arange(T).

    Writes past the last slot are dropped. -> cache, all the layer's keys and values.
    """
    rows = jnp.arange(key.shape[0])[:, None]
    slots = cache["length"][:, None] + jnp.arange(key.shape[1])
    whole = []
    for name, new in (("k", key), ("v", value)):
        # in place over all layers: a copy of one layer is all that is made
        at = cache[name].at[layer, rows, slots]
        cache = cache | {name: at.set(new.astype(cache[name].dtype), mode="drop")}
        one = jax.lax.dynamic_index_in_dim(cache[name], layer, keepdims=False)
        whole.append(one.astype(new.dtype))
    return cache, *whole
