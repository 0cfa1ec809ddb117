"""The console script `insgenel`: every entry point as a subcommand.

`insgenel link ...` and `python -m insgenel_jax link ...` do what `python -m
insgenel_jax.link ...` does. A command's module is imported when the command runs, so
that the help and the version appear without loading JAX.
"""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from insgenel_jax import __version__

app = typer.Typer(
    help="Entity linking with instruction-tuned language models, in JAX.",
    no_args_is_help=True,
    add_completion=False,
)

# A command's arguments, --help among them, are for the Typer app of its own module.
UNPARSED = {
    "allow_extra_args": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
    "ignore_unknown_options": True,
}


def print_version(wanted: bool) -> bool:
    """Print the version and end the program, where --version is given."""
    if wanted:
        typer.echo(f"insgenel_jax {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    pass


@app.command(context_settings=UNPARSED)
def prepare(context: typer.Context) -> None:
    """Make a knowledge base, training documents and tokenizers."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def base(context: typer.Context) -> None:
    """Turn a pretrained model into a directory to begin training with."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def train(context: typer.Context) -> None:
    """Train a generator or a retriever."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def finetune(context: typer.Context) -> None:
    """Train a linker further on labelled documents of one's own."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def index(context: typer.Context) -> None:
    """Embed and index the entities; put a linker together."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def link(context: typer.Context) -> None:
    """Link texts, or the documents of a file."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def explain(context: typer.Context) -> None:
    """Say for each word of a text why it is linked, or why not."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def ask(context: typer.Context) -> None:
    """Link a file by asking a general language model in context (INSGENEL-ICL)."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def serve(context: typer.Context) -> None:
    """Serve a linker over HTTP, with a page to try it."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def convert(context: typer.Context) -> None:
    """Convert a file of documents: JSONL, Parquet, NIF, ELEVANT, AIDA, PubTator."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def evaluate(context: typer.Context) -> None:
    """Score linkers on labelled documents."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def study(context: typer.Context) -> None:
    """Study what a choice brings and costs."""
    run_module(context)


@app.command(context_settings=UNPARSED)
def tune(context: typer.Context) -> None:
    """Choose a linker's settings, and calibrate its scores."""
    run_module(context)


@app.command(context_settings=UNPARSED, name="set")
def set_(context: typer.Context) -> None:
    """Change the settings that a linker keeps."""
    run_module(context)


def run_module(context: typer.Context) -> None:
    """Run the entry point that has the command's name, with the command's arguments.

    The module has a Typer `app` where it has subcommands of its own, else a `main`.
    """
    name = context.info_name
    module = importlib.import_module(f"insgenel_jax.{name}")
    command = getattr(module, "app", None)
    if command is None:
        command = typer.Typer(add_completion=False)
        command.command()(module.main)
    command(args=context.args, prog_name=f"insgenel {name}")


if __name__ == "__main__":
    app(prog_name="insgenel")
