"""Linkers and systems that a command line names in; systems to evaluate out.

A linker is opened when it has to link something: links that are kept need none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.status import Status
from rich.text import Text

from insgenel_jax import artifact, cli
from insgenel_jax.evaluation import scoring, systems, tuning
from insgenel_jax.evaluation.search import Sets
from insgenel_jax.evaluation.systems import PRIOR, System, Unopened
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.formats.rejects import InputError


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A linker's directory, a system and settings to open it with; None for prior."""

    name: str
    path: Path | None
    system: str
    settings: Mapping[str, Any]


def choose_systems(
    linkers: Sequence[Path],
    names: Sequence[str],
    given: Sequence[str],
    spans: bool = False,
) -> list[Chosen]:
    """The systems to score, in the order of `names`: those of each linker, and prior.

    Without `names` each linker is the system that it says it is. given: settings.
    spans: linkers get the gold mentions. Raises InputError for settings, see
    `check_settings`.
    """
    chosen: list[Chosen] = []
    if (given or spans) and not linkers:
        check_settings(Path(), names, given, spans)
    own = {path: [n for n in names if n != PRIOR] or [] for path in linkers}
    for path in linkers:
        if not names:
            own[path] = [read_system(path)]
    settings = {path: check_settings(path, own[path], given, spans) for path in linkers}
    for name in names or [""]:
        if name == PRIOR:
            chosen.append(Chosen(PRIOR, None, PRIOR, {}))
            continue
        for path, label in zip(linkers, name_linkers(linkers), strict=True):
            system = name or own[path][0]
            several = len(own[path]) > 1
            label = f"{label} {system}" if several else label
            if len(linkers) == 1:
                label = system
            label = f"{label}, gold spans" if spans else label
            chosen.append(Chosen(label, path, system, settings[path][system]))
    return chosen


def read_system(path: Path) -> str:
    """The system that a linker's directory says it is. Raises InputError."""
    from insgenel_jax.linker.settings import Settings, read_settings  # it loads JAX

    if not (path / "linker.json").is_file():  # opening the linker says what is wrong
        return Settings.system
    with cli.opening(path, "linker"):
        return read_settings(path).system


def name_linkers(paths: Sequence[Path]) -> list[str]:
    """A name for each linker: its folder's, or its whole path where that is not new."""
    names = [path.parent.name if path.name == "linker" else path.name for path in paths]
    clear = all(names) and len(frozenset(names)) == len(names)
    return names if clear and PRIOR not in names else [str(path) for path in paths]


def check_settings(
    linker: Path, names: Sequence[str], given: Sequence[str], spans: bool = False
) -> dict[str, dict[str, Any]]:
    """The settings of --set that have an effect, for each of the linker's systems.

    spans: these get the gold mentions. Raises InputError for a bad setting, for one
    that changes none of the systems, and for a bad system.
    """
    settings = cli.parse_settings(given)
    systems = [name for name in names if name != PRIOR]
    if spans and not systems:
        raise InputError(
            f"--given: expected a linker, which links the gold mentions, found {names};"
            " give --linker or leave it out"
        )
    if settings and not systems:
        raise InputError(
            f"--set {given[0]}: expected a system that has settings, found"
            f" {names}; give --linker or leave --set out"
        )
    if "system" in settings:
        raise InputError("--set system: expected --system, which chooses it")
    useless = {
        name: cli.check_settings(settings | {"system": name}, linker, given=spans)
        for name in systems
    }
    for setting in settings:
        needed = [needs[setting] for needs in useless.values() if setting in needs]
        if needed and len(needed) == len(systems):
            raise InputError(
                f"--set {setting}: no effect on {systems}, it needs {needed[0]}; leave "
                "it out or set what it needs"
            )
    return {
        name: {k: v for k, v in settings.items() if k not in useless[name]}
        for name in systems
    }


def open_systems(
    chosen: Sequence[Chosen],
    kb: KnowledgeBase | None,
    dev: Sets,
    redirects: Mapping[str, str] | None,
    verify: bool,
    given: bool,
    status: Status,
) -> Iterator[System | Unopened]:
    """Each system when its turn comes; linkers are opened when they have to link.

    kb: for the prior. given: linkers get the gold mentions.
    """
    for each in chosen:
        if each.path is not None:
            yield prepare_linker(each, redirects, verify, given)
        elif kb is not None:
            yield open_prior(kb, dev, scoring.make_resolve(redirects, kb), status)


def prepare_linker(
    chosen: Chosen, redirects: Mapping[str, str] | None, verify: bool, given: bool
) -> Unopened:
    """A linker of which only the knowledge base is open."""
    path = chosen.path or Path()
    kb = open_kb(path / "kb", verify)
    resolve = scoring.make_resolve(redirects, kb)
    settings = {"system": chosen.system, **chosen.settings}
    identity = artifact.identity(path)

    def open_linker() -> System:
        from insgenel_jax.linker import Linker  # only now: it loads JAX

        with cli.opening(path, "linker"):
            linker = Linker.from_pretrained(path, verify=verify, **settings)
        return systems.linker_system(
            linker, chosen.name, resolve=resolve, identity=identity, given=given
        )

    links = {**settings, "given": given}  # what they depend on
    return Unopened(
        chosen.name, open_linker, kb, resolve, systems.identify(identity, links)
    )


def open_kb(path: Path | None, verify: bool) -> KnowledgeBase | None:
    """The knowledge base at a path, if there is one; `verify` compares hashes."""
    if path is None:
        return None
    with cli.opening(path, "knowledge base"):
        return KnowledgeBase.open(path, verify=verify)


def open_prior(
    kb: KnowledgeBase, dev: Sets, resolve: scoring.Resolve, status: Status
) -> System:
    """The prior-only baseline, tuned; what tuning reached and chose is printed."""
    count = sum(map(len, dev.values()))
    status.update(f"tuning {PRIOR} on {count} documents")
    linker, tuned = tuning.tune_prior(kb, dev, scoring.same_entity(resolve))
    told = (
        f"{PRIOR}, tuned on {count} documents to a mean F1 of "
        f"{100 * tuned.calibrated.best.f1:.1f}: {tuned.settings}"
    )
    status.console.print(Text(told))
    return systems.as_prior_system(linker, tuned, resolve)
