"""The options of --compile-only, of commands that load JAX only when they need it."""

from __future__ import annotations

from typing import Annotated

import typer

CompileOnly = Annotated[
    bool,
    typer.Option(
        "--compile-only", help="Compile for --topology, say what it takes, and end."
    ),
]
Topology = Annotated[
    str | None,
    typer.Option(
        help="Slice of TPUs that need not be here, as v5e:4x8 or v5p:2x2x2; else the "
        "devices that are here."
    ),
]
