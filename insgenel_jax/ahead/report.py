"""A compiled program in; what it takes of a chip, and whether it fits, out."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from insgenel_jax.training.chips import Chip, find_chip

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
# An instruction of HLO; an asynchronous one has a start, which counts, and a done.
_CALL = re.compile(rf"= .*? ({'|'.join(COLLECTIVES)})(-start)?\(")
_KERNEL = re.compile(r'op_name="[^"]*/(splash|cudnn|xla)/')


@dataclasses.dataclass(frozen=True)
class Report:
    """What a program takes.

    arguments, temporary: bytes a chip that are kept between calls, and that are not.
    flops: of a call, on all chips, counted from the config. collectives: how often each
    stands in the program; one in the loop over layers counts once. kernels: the
    backends of attention. refused: why the compiler could not fit it, or "".
    """

    program: str
    mesh: str
    chip: Chip | None
    chips: int
    flops: float
    seconds: float
    arguments: int = 0
    temporary: int = 0
    collectives: dict[str, int] = dataclasses.field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    refused: str = ""

    @property
    def fits(self) -> bool | None:
        """Whether it fits a chip; None where the chip's memory is not known."""
        if self.refused:
            return False
        taken = self.arguments + self.temporary
        return None if self.chip is None else taken <= self.chip.memory

    def rows(self) -> dict[str, str]:
        """The facts in words, for a table."""
        memory = "unknown" if self.chip is None else _gigabytes(self.chip.memory)
        facts = {
            "program": self.program,
            "mesh": self.mesh,
            "chips": f"{self.chips} x {self.chip.kind if self.chip else 'unknown'}",
            "memory of a chip": memory,
            "FLOPs": f"{self.flops:.3g}",
        }
        if self.chip is not None:
            best = self.flops / self.chip.peak / self.chips
            facts["at the chips' peak"] = f"{1000 * best:.1f} ms"
        facts["compiled in"] = f"{self.seconds:.1f} s"
        if self.refused:
            return facts | {"fits": f"no: {self.refused}"}
        fits = {True: "yes", False: "no", None: "unknown"}[self.fits]
        counted = ", ".join(f"{n} {name}" for name, n in self.collectives.items())
        return facts | {
            "kept, a chip": _gigabytes(self.arguments),
            "temporary, a chip": _gigabytes(self.temporary),
            "fits": fits,
            "collectives": counted or "none",
            "attention": ", ".join(self.kernels) or "none",
        }


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


def make_report(
    program: str, mesh: Mesh, flops: float, compile_it: Callable[[], Any]
) -> Report:
    """Compile, and report. compile_it: gives the jax.stages.Compiled."""
    began = time.perf_counter()
    shape = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    about = program, shape, find_chip(mesh.devices.flat[0]), mesh.size, flops
    try:
        with jax.set_mesh(mesh), _without_kept_programs():
            compiled = compile_it()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = time.perf_counter() - began
        return Report(*about, seconds, refused=" ".join(str(error).split())[:300])
    seconds, memory = time.perf_counter() - began, compiled.memory_analysis()
    text = compiled.as_text()
    return Report(
        *about,
        seconds,
        memory.argument_size_in_bytes,
        # what is donated is used again by the output
        memory.temp_size_in_bytes
        + max(memory.output_size_in_bytes - memory.alias_size_in_bytes, 0),
        count_collectives(text),
        tuple(sorted(set(_KERNEL.findall(text)))),
    )


@contextlib.contextmanager
def _without_kept_programs() -> Iterator[None]:
    """Compile anew: JAX keeps programs for a slice, and cannot read them back."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # which has remembered whether it is used
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def count_collectives(program: str) -> dict[str, int]:
    """How often each collective stands in the text of a compiled program."""
    counts = collections.Counter(match[1] for match in _CALL.finditer(program))
    return {name: counts[name] for name in COLLECTIVES if counts[name]}
