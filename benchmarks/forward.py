"""Tokens/s of a causal forward pass in bfloat16: ours (xla, cudnn) against torch.

    python benchmarks/forward.py [--models 1.3B 7B] [--repeats 7] [--json FILE]
    python benchmarks/forward.py --tiny        a smoke test, without a GPU too

Both compute the last hidden states of the same LLaMA with the same random weights,
which are written to disk and read by transformers. torch uses
scaled_dot_product_attention, restricted to its flash kernel. The contenders take turns;
times are medians, ratios are of medians of one process. jax is told not to reserve all
memory, as torch needs some.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel

from insgenel_jax import models
from insgenel_jax.models import attention, hf
from insgenel_jax.models.config import ModelConfig

LARGE = {
    "family": "llama",
    "vocabulary": 32000,
    "max_positions": 2048,
    "dtype": "bfloat16",
    "param_dtype": "bfloat16",
}
MODELS = {
    "1.3B": ModelConfig(**LARGE, dim=2048, layers=24, heads=16, ffn=5504),
    "7B": ModelConfig(**LARGE, dim=4096, layers=32, heads=32, ffn=11008),
}
TINY = dataclasses.replace(
    MODELS["1.3B"], vocabulary=512, dim=64, head_dim=16, heads=4, kv_heads=4, layers=2
)
SIZES = ((1, 512), (8, 512), (4, 2048))  # rows x tokens


def main() -> None:
    arguments = parse()
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    if not on_gpu:
        note = "no GPU that jax and torch both see: no cudnn, and no figure to quote"
        if not arguments.tiny:
            raise SystemExit(f"{note}; --tiny is a smoke test")
        print(note)
    device = jax.devices()[0].device_kind
    facts = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": device if on_gpu else platform.machine() + " CPU",
        "seed": arguments.seed,
        "repeats": arguments.repeats,
        "torch attention": "scaled_dot_product_attention, flash kernel",
    }
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    configs = {name: MODELS[name] for name in arguments.models}
    sizes = SIZES
    if arguments.tiny:
        configs, sizes = {"tiny": TINY}, ((2, 128),)
    rows = []
    for name, config in configs.items():
        rows += compare(name, config, sizes, on_gpu, arguments)
    print("  ".join(f"{column:>14}" for column in rows[0]))
    for row in rows:
        cells = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values())
        print("  ".join(f"{cell:>14}" for cell in cells))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=[*MODELS])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--tiny", action="store_true", help="a smoke test, on any machine"
    )
    parser.add_argument("--json", type=Path, help="write the numbers here")
    return parser.parse_args()


def compare(
    name: str,
    config: ModelConfig,
    sizes: tuple[tuple[int, int], ...],
    on_gpu: bool,
    arguments: argparse.Namespace,
) -> list[dict]:
    """A row for each size and contender: its tokens/s, and how far it is from torch."""
    params = models.init_params(config, jax.random.key(arguments.seed))
    with tempfile.TemporaryDirectory() as folder:
        hf.save_model(folder, config, params)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    theirs = theirs.base_model.eval().to("cuda" if on_gpu else "cpu")
    rng, rows = np.random.default_rng(arguments.seed), []
    for batch, tokens in sizes:
        ids = rng.integers(0, config.vocabulary, (batch, tokens))
        contenders = {"torch": torch_forward(theirs, ids)}
        for backend in ("xla", "cudnn") if on_gpu else ("xla",):
            setting = dataclasses.replace(config, attention=backend)
            contenders[backend] = our_forward(setting, params, ids)
        # the first call compiles; its hidden states are compared
        hidden = {contender: call() for contender, call in contenders.items()}
        medians = time_in_turns(contenders, arguments.repeats)
        for contender, median in medians.items():
            off = np.abs(hidden[contender] - hidden["torch"]).mean()
            rows.append(
                {
                    "model": name,
                    "rows x tokens": f"{batch} x {tokens}",
                    "contender": contender,
                    "median s": median,
                    "tokens/s": batch * tokens / median,
                    "of torch": medians["torch"] / median,
                    "mean |diff|": float(off / np.abs(hidden["torch"]).mean()),
                }
            )
    return rows


def time_in_turns(contenders: dict[str, Callable], repeats: int) -> dict[str, float]:
    """The median seconds of a call of each contender."""
    seconds = {contender: [] for contender in contenders}
    for _ in range(repeats):
        for contender, call in contenders.items():
            began = time.perf_counter()
            call(fetch=False)
            seconds[contender].append(time.perf_counter() - began)
    return {contender: statistics.median(times) for contender, times in seconds.items()}


def our_forward(config: ModelConfig, params: dict, ids: np.ndarray) -> Callable:
    """A call() -> hidden states; call(fetch=False) only waits for them."""
    positions = np.tile(np.arange(ids.shape[1]), (len(ids), 1))
    tokens, positions = jnp.asarray(ids, jnp.int32), jnp.asarray(positions, jnp.int32)
    module, mask = models.build(config), attention.Mask(causal=True)
    forward = jax.jit(lambda *inputs: module.apply(*inputs, mask)[0])

    def call(fetch: bool = True):
        hidden = forward({"params": params}, tokens, positions).block_until_ready()
        return np.asarray(hidden, np.float32) if fetch else None

    return call


def torch_forward(model, ids: np.ndarray) -> Callable:
    """The same for torch."""
    tokens = torch.tensor(ids, device=model.device)

    @torch.inference_mode()
    def call(fetch: bool = True):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            hidden = model(tokens, use_cache=False).last_hidden_state
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return hidden.float().cpu().numpy() if fetch else None

    return call


if __name__ == "__main__":
    main()
