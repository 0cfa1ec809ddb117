"""Attention: what a token may see (Mask), and which backend computes it."""

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

from insgenel_jax.models.tiles import Tiles
from insgenel_jax.sharding import BATCH, RULES, AnyArray


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("segments", "lengths", "dense"),
    meta_fields=("causal",),
)
@dataclasses.dataclass(frozen=True)
class Mask:
    """Which keys a query may see: those that every part of the mask allows.

    A part that is left out allows every key.
    causal: query t sees the keys 0 to t.
    segments: a token sees the tokens of its own segment; segment 0 is padding, which
    nobody sees.
    lengths: row b has lengths[b] keys; the keys after them are not seen.
    dense: True where a query sees a key. It is for masks that the other parts cannot
    express: tree attention, and a KV cache whose rows are filled unequally.
    """

    causal: bool = False
    segments: Int[AnyArray, "B T"] | None = None
    lengths: Int[AnyArray, " B"] | None = None
    dense: Bool[AnyArray, "#B T S"] | None = None

    def __and__(self, seen: Bool[AnyArray, "#B T S"]) -> Mask:
        """The mask that allows what both this one and `seen`, say a window, allow."""
        seen = seen if self.dense is None else self.dense & seen
        return dataclasses.replace(self, dense=seen)


# Backend -> the platform it runs on (None: any), and the parts of a mask it honours.
BACKENDS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "xla": (None, ("causal", "segments", "lengths", "dense")),
    "cudnn": ("gpu", ("causal", "lengths")),
    "splash": ("tpu", ("causal", "segments", "lengths")),
}
_LANES = 128  # splash attention takes a multiple of this many tokens


def attend(
    query: Float[AnyArray, "B T N H"],
    key: Float[AnyArray, "B S K H"],
    value: Float[AnyArray, "B S K H"],
    mask: Mask | Tiles | Bool[AnyArray, "#B T S"],
    backend: str = "auto",
) -> Float[Array, "B T N H"]:
    """Scaled dot-product attention with grouped queries (GQA): N / K heads share a key.

    The softmax is computed in float32. The result for a query that sees no key is
    meaningless, but it and its gradient are finite. Raises ValueError when the named
    backend would ignore a part of the mask or cannot run here; "auto" then takes xla.
    """
    if isinstance(mask, Tiles):
        return _attend_tiles(query, key, value, mask, backend)
    mask = mask if isinstance(mask, Mask) else Mask(dense=mask)
    backend = choose_backend(backend, mask, query, key, find_platform())
    compute = {"xla": _attend_xla, "cudnn": _attend_cudnn, "splash": _attend_splash}
    with jax.named_scope(backend):
        return compute[backend](query, key, value, mask)


def _attend_tiles(
    query: Float[AnyArray, "D N heads H"],
    key: Float[AnyArray, "D S K H"],
    value: Float[AnyArray, "D S K H"],
    mask: Tiles,
    backend: str,
) -> Float[Array, "D N heads H"]:
    """Each tile of a pack, with the keys of its row, as a row of an ordinary batch."""
    tiled = (mask.queries(query), mask.keys(key), mask.keys(value), mask.seen)
    packs = query.shape[0]
    query, key, value, seen = (x.reshape(-1, *x.shape[2:]) for x in tiled)
    found = attend(query, key, value, seen, backend)
    return mask.packed(found.reshape(packs, -1, *found.shape[1:]))


def find_platform() -> str:
    """The platform of the mesh of `jax.set_mesh`, which need not be here; else JAX's.

    A program may be compiled for devices that this machine lacks.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    platform = jax.default_backend() if device is None else device.platform
    return "gpu" if platform in ("cuda", "rocm") else platform


def choose_backend(
    setting: str,
    mask: Mask,
    query: AnyArray | jax.ShapeDtypeStruct,
    key: AnyArray | jax.ShapeDtypeStruct,
    platform: str,
) -> str:
    """The backend for these arrays, or arrays of these shapes, on cpu, gpu or tpu.

    "auto" is the platform's own backend if that can compute this attention, else xla.
    Raises ValueError with all objections to a backend that was named.
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


def objections(
    backend: str,
    mask: Mask,
    query: AnyArray | jax.ShapeDtypeStruct,
    key: AnyArray | jax.ShapeDtypeStruct,
    platform: str,
) -> list[str]:
    """Why this backend cannot run here, or would compute something else."""
    where, honoured = BACKENDS[backend]
    parts = {f.name: getattr(mask, f.name) for f in dataclasses.fields(mask)}
    given = [n for n, part in parts.items() if part is not None and part is not False]
    keys, problems = key.shape[1], []
    if where not in (None, platform):
        problems.append(f"it runs on {where}, this is {platform}")
    problems += [f"it would ignore the mask's {n}" for n in given if n not in honoured]
    if mask.segments is not None and mask.segments.shape[1] != keys:
        problems.append(
            f"the mask has segments of {mask.segments.shape[1]} tokens for {keys} keys"
        )
    if backend == "cudnn":
        problems += _cudnn_objections(query)
    if backend == "splash":
        problems += _splash_objections(query, key)
    return problems


def _cudnn_objections(query: AnyArray | jax.ShapeDtypeStruct) -> list[str]:
    size, problems = query.shape[3], []
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        problems.append(f"it takes bfloat16 or float16, not {query.dtype}")
    if size % 8 or size > 128:
        problems.append(f"heads of {size}: not a multiple of 8, at most 128")
    return problems


def _splash_objections(
    query: AnyArray | jax.ShapeDtypeStruct, key: AnyArray | jax.ShapeDtypeStruct
) -> list[str]:
    (rows, queries, heads, size), (keys, kv_heads) = query.shape, key.shape[1:3]
    problems = []
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


def _attend_xla(
    query: Float[AnyArray, "B T N H"],
    key: Float[AnyArray, "B S K H"],
    value: Float[AnyArray, "B S K H"],
    mask: Mask,
) -> Float[Array, "B T N H"]:
    """Any mask on any platform; the scores of all T x S pairs are formed."""
    seen = to_dense(mask, query.shape[1], key.shape[1])
    groups = query.shape[2] // key.shape[2]
    # with the heads in front a CPU computes the products in half the time
    query, key, value = (jnp.moveaxis(x, 2, 1) for x in (query, key, value))
    query = query.reshape(*key.shape[:2], groups, *query.shape[2:])  # [B K G T H]
    scores = jnp.einsum(
        "bkgth,bksh->bkgts", query, key, preferred_element_type=jnp.float32
    )
    scores = jnp.where(seen[:, None, None], scores * query.shape[-1] ** -0.5, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    mixed = jnp.einsum("bkgts,bksh->bkgth", weights, value)
    return jnp.moveaxis(mixed.reshape(mixed.shape[0], -1, *mixed.shape[3:]), 1, 2)


def _attend_cudnn(
    query: Float[AnyArray, "B T N H"],
    key: Float[AnyArray, "B S K H"],
    value: Float[AnyArray, "B S K H"],
    mask: Mask,
    implementation: str = "cudnn",
) -> Float[Array, "B T N H"]:
    """The flash attention of cuDNN; key heads are shared, not repeated."""
    lengths = mask.lengths
    if lengths is not None:  # a row without keys sees its first one, to stay finite
        lengths = jnp.maximum(lengths, 1).astype(jnp.int32)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        is_causal=mask.causal,
        key_value_seq_lengths=lengths,
        implementation=implementation,
    )


def _attend_splash(
    query: Float[AnyArray, "B T N H"],
    key: Float[AnyArray, "B T K H"],
    value: Float[AnyArray, "B T K H"],
    mask: Mask,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """Splash attention, the flash attention for TPUs; key heads are shared.

    The kernel only compares segment ids for equality, so padding sees padding: its
    values are finite and meaningless. XLA cannot partition the kernel, hence the
    shard_map.
    """
    rows, tokens, _, size = query.shape
    segments = mask.segments
    if mask.lengths is not None and segments is None:
        segments = jnp.ones((rows, tokens), jnp.int32)
    ids = None if segments is None else splash.SegmentIds(segments, segments)
    if mask.lengths is not None:
        inside = jnp.arange(tokens) < mask.lengths[:, None]
        ids = ids._replace(kv=jnp.where(inside, segments, -1))
    compute = functools.partial(_run_splash, causal=mask.causal, interpret=interpret)
    if not jax.sharding.get_abstract_mesh().empty:
        heads = P(BATCH, RULES["heads"])
        compute = jax.shard_map(
            compute,
            in_specs=(heads, heads, heads, P(BATCH)),
            out_specs=heads,
            check_vma=False,
        )
    query, key, value = (jnp.moveaxis(x, 2, 1) for x in (query, key, value))
    return jnp.moveaxis(compute(query * size**-0.5, key, value, ids), 1, 2)


def _run_splash(
    query: Float[AnyArray, "B N T H"],
    key: Float[AnyArray, "B K T H"],
    value: Float[AnyArray, "B K T H"],
    ids: splash.SegmentIds | None,
    *,
    causal: bool,
    interpret: bool,
) -> Float[Array, "B N T H"]:
    """The kernel on the rows and heads of one device."""
    heads, tokens = query.shape[1:3]
    mask = splash_mask.CausalMask if causal else splash_mask.FullMask
    size = next(n for n in (512, 256, _LANES) if tokens % n == 0)
    kernel = splash.make_splash_mha(
        splash_mask.MultiHeadMask([mask((tokens, tokens))] * heads),
        block_sizes=splash.BlockSizes(
            **dict.fromkeys(("block_q", "block_q_dkv", "block_q_dq"), size),
            **dict.fromkeys(("block_kv", "block_kv_dkv", "block_kv_dq"), size),
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    return jax.vmap(kernel)(query, key, value, ids)


def to_dense(
    mask: Mask, queries: int, keys: int
) -> Bool[AnyArray, "B {queries} {keys}"]:
    """The mask as one array, of a single row if it is the same for all rows."""
    seen = jnp.ones((1, queries, keys), bool) if mask.dense is None else mask.dense
    if mask.causal:
        seen &= jnp.arange(queries)[:, None] >= jnp.arange(keys)
    if (segments := mask.segments) is not None:
        seen &= segments[:, :, None] == segments[:, None, :]
        seen &= (segments > 0)[:, :, None]
    if mask.lengths is not None:
        seen &= jnp.arange(keys) < mask.lengths[:, None, None]
    return seen


def causal_mask(segments: Int[AnyArray, "B T"]) -> Mask:
    """The mask of packed texts: a token sees its own segment up to itself.

    Segment 0 is padding: it sees nothing and nobody sees it.
        segments 1 1 2 2 0      1 . . . .
                                1 1 . . .
                                . . 1 . .
                                . . 1 1 .
                                . . . . .
    """
    return Mask(causal=True, segments=segments)
