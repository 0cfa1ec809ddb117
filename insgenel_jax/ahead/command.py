"""What `train`, `link` and `index` share of --compile-only: its table."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from insgenel_jax import cli
from insgenel_jax.ahead import programs
from insgenel_jax.ahead.report import Report
from insgenel_jax.ahead.slices import slice_devices
from insgenel_jax.models import hf
from insgenel_jax.text.formats.rejects import InputError

TOO_LARGE = 4  # exit status: the program does not fit a chip


def report(
    topology: str | None,
    compile_it: Callable[[Sequence[jax.Device] | None], Report],
) -> None:
    """Compile for a slice, print what the program takes, and exit with 0 or TOO_LARGE.

    Raises InputError for a slice or mesh that cannot be.
    """
    try:
        found = compile_it(None if topology is None else slice_devices(topology))
    except ValueError as error:
        raise InputError(str(error)) from error
    table = Table(title=f"compiled for {topology or 'here'}", show_header=False)
    for name, value in found.rows().items():
        table.add_row(name, Text(value))
    Console().print(table)
    sys.exit(TOO_LARGE if found.fits is False else 0)


def report_linking(linker: Path, topology: str | None, settings: list[str]) -> None:
    """Report on a call of a linker's generator, at its batch and dtype."""
    cli.check_settings(given := cli.parse_settings(settings), linker)
    from insgenel_jax.linker.settings import read_settings

    kept = read_settings(linker, **given)
    config = dataclasses.replace(
        hf.load_config(linker / "generator"), dtype=kept.dtype, param_dtype=kept.dtype
    )
    report(
        topology,
        lambda devices: programs.compile_linking(config, kept.batch, devices),
    )


def report_indexing(retriever: Path, topology: str | None) -> None:
    """Report on the embedding of entities by a retriever."""
    parts = [path for path in (retriever / "entity", retriever) if path.is_dir()]
    config = hf.load_config(parts[0])
    report(
        topology,
        lambda devices: programs.compile_indexing(config, 1024, 64, devices),
    )
