"""Entry point: change the settings of a linker, without indexing again.

python -m insgenel_jax.set LINKER KEY=VALUE ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from insgenel_jax import artifact, cli, paths
from insgenel_jax.linker.bundled import is_bundled, locate
from insgenel_jax.text.formats.rejects import InputError


@cli.user_errors()
def main(
    linker: Annotated[Path, typer.Argument(help="Linker directory.")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Settings to keep; see insgenel link --set help.",
        ),
    ],
) -> None:
    """Change settings that a linker keeps; its other settings and parts stay.

    Where the calibrator of a tuned linker does not hold with them, a warning says so.
    """
    linker = locate(linker)
    artifact.read(linker)
    if is_bundled(linker):
        raise InputError(
            f"{linker}: expected a linker that may be changed, found the one that "
            f'comes with the package; cp -r "{linker}" work/nano, and give work/nano'
        )
    paths.check_target(linker, "linker")
    changes = cli.parse_settings(settings)
    cli.check_settings(changes, linker)
    # calls from Python pass given mentions, which `titles` is for
    cli.check_effect({k: v for k, v in changes.items() if k != "titles"}, linker)
    from insgenel_jax.linker.tuned import write_settings

    try:
        write_settings(linker, changes)
    except artifact.ArtifactError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    Console().print(Text(f"linker: {linker}, now with {changes}"), soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
