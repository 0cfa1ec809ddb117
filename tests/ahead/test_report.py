"""Reports on compiled programs: what is counted, what fits, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from insgenel_jax.ahead import programs
from insgenel_jax.ahead.report import Report, count_collectives, make_report
from insgenel_jax.sharding import make_mesh
from insgenel_jax.training.chips import CHIPS
from tests.helpers.tiny import LLAMA

V5E = next(chip for chip in CHIPS if chip.kind == "TPU v5 lite")
PROGRAM = """
  %ag = f32[8]{0} all-gather(%p), channel_id=1
  %s = (f32[4], f32[8]) all-gather-start(%p), channel_id=2
  %d = f32[8]{0} all-gather-done(%s)
  %r = f32[8]{0} all-reduce(%ag), to_apply=%add
  %f = f32[8]{0} fusion(%all-reduce.1), calls=%all-gather.2
"""


def test_a_collective_counts_once_whether_it_is_asynchronous_or_not():
    assert count_collectives(PROGRAM) == {"all-gather": 2, "all-reduce": 1}


def test_a_program_fits_where_its_bytes_do():
    about = ("step", "data 1", V5E, 1, 1e12, 0.0)
    assert Report(*about, arguments=10**10, temporary=6 * 10**9).fits
    assert not Report(*about, arguments=10**10, temporary=8 * 10**9).fits
    refused = Report(*about, refused="used 20 GB")
    assert refused.fits is False and refused.rows()["fits"] == "no: used 20 GB"
    unknown = Report("step", "data 1", None, 1, 1e12, 0.0)
    assert unknown.fits is None and unknown.rows()["fits"] == "unknown"
    assert Report(*about).rows()["at the chips' peak"] == "5.1 ms"


def test_what_the_compiler_cannot_fit_is_told():
    def refuse():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: ran out of\n memory")

    found = make_report("step", make_mesh(), 1.0, refuse)
    assert found.refused == "RESOURCE_EXHAUSTED: ran out of memory"

    def fail():
        raise jax.errors.JaxRuntimeError("INTERNAL: else")

    with pytest.raises(jax.errors.JaxRuntimeError):
        make_report("step", make_mesh(), 1.0, fail)


def test_bytes_and_collectives_of_a_product_over_two_devices():
    mesh = make_mesh(fsdp=2)
    rows = jax.ShapeDtypeStruct(
        (4, 8), jnp.float32, sharding=jax.NamedSharding(mesh, P(None, "fsdp"))
    )

    def compile_it():
        total = jax.jit(
            lambda x: (x @ x.T).sum(), out_shardings=jax.NamedSharding(mesh, P())
        )
        return total.lower(rows).compile()

    found = make_report("product", mesh, 1.0, compile_it)
    assert found.arguments == 4 * 8 * 4 / 2 and found.chips == 2
    assert found.collectives == {"all-reduce": 1} and found.chip is None


@pytest.mark.slow
def test_a_call_of_a_decoder_and_an_embedding_compile_here():
    config = dataclasses.replace(LLAMA, heads=8, kv_heads=8, head_dim=4)
    found = programs.compile_linking(config, 2, tokens=16, slots=64, edges=32)
    assert found.chips == 8 and found.collectives["all-reduce"] >= 2
    assert found.kernels == ("xla",) and not found.refused
