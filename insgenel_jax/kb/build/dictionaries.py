"""Files of redirects, aliases and titles in; more names and entities for a knowledge
base made from pages out.

The files are TSV in UTF-8, plain, `.gz` or `.bz2`. A line that cannot be used goes to
the rejects. Titles are compared as Wikipedia does, and a "#section" is cut off; a
redirect from a section goes to the rejects.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import regex

from insgenel_jax.kb.build.article_titles import article_title
from insgenel_jax.kb.build.names import has_surrogate, name_problem
from insgenel_jax.kb.build.tables import follow_redirects
from insgenel_jax.kb.folding import form_key
from insgenel_jax.text.formats.lines import decode_lines
from insgenel_jax.text.formats.rejects import Rejects

AliasFormat = Literal["counts", "probabilities", "aida_means", "kolitsas", "rel"]

# A dictionary of probabilities weighs as much as this many links of each form.
LINKS_A_FORM = 100

_COLUMNS: dict[AliasFormat, tuple[int, int | None]] = {  # least, most
    "counts": (2, 3),
    "probabilities": (3, 3),
    "aida_means": (2, 2),
    "kolitsas": (3, None),
    "rel": (2, 2),
}

_COUNT = regex.compile("[0-9]{1,12}")
_PROBABILITY = regex.compile(r"(?:[0-9]*\.)?[0-9]++(?:[eE][-+]?[0-9]{1,3})?")
_ESCAPE = regex.compile(r"\\u([0-9A-Fa-f]{4})?")


@dataclasses.dataclass(frozen=True)
class DictionaryFiles:
    """The files to read beside the pages; each may be left out.

    redirects: alias <TAB> title. titles: one title a line. aliases: by `alias_format`,
    see `read_aliases`.
    """

    redirects: str | os.PathLike | None = None
    aliases: str | os.PathLike | None = None
    titles: str | os.PathLike | None = None
    alias_format: AliasFormat = "counts"


NO_DICTIONARIES = DictionaryFiles()


class Redirect(NamedTuple):
    """Where a redirect leads, and where it stands."""

    title: str
    line: int | None
    source: str


class Alias(NamedTuple):
    """A surface form, folded, that names a title; the line where it stands."""

    form: str
    title: str
    count: int
    line: int


def read_redirects(path: str | os.PathLike, rejects: Rejects) -> dict[str, Redirect]:
    """alias -> title, from lines `alias <TAB> title`; the first of an alias counts.

    Chains are not followed yet; `end_redirects` does that.
    """
    redirects: dict[str, Redirect] = {}
    for line, columns, raw in read_columns(path, rejects, 2, 2):
        try:
            if "#" in columns[0]:
                raise ValueError("redirect from a #section")
            alias, title = map(parse_title, columns)
        except ValueError as error:
            rejects.add(str(path), line, str(error), raw)
            continue
        found = Redirect(title, line, str(path))
        if redirects.setdefault(alias, found).title != title:
            rejects.add(str(path), line, "redirect given before to another title", raw)
    return redirects


def read_titles(path: str | os.PathLike, rejects: Rejects) -> list[str]:
    """The titles of a file, one a line, each once."""
    titles: dict[str, None] = {}
    for line, (column,), raw in read_columns(path, rejects, 1, 1):
        try:
            titles[parse_title(column)] = None
        except ValueError as error:
            rejects.add(str(path), line, str(error), raw)
    return list(titles)


def read_aliases(
    path: str | os.PathLike, rejects: Rejects, format: AliasFormat = "counts"
) -> Iterator[Alias]:
    """The aliases of a file, whose columns are what `format` says.

    "counts": surface form, title and, where known, how many links have the form and
    lead to the title (else 1); the dictionaries of GENRE and of Kolitsas et al., one
    candidate a line, are read so where they hold counts.
    "probabilities": the same with p(title | form), from 0 to 1, in place of the count.
    It becomes a count of `LINKS_A_FORM` times p, at least 1.
    "aida_means": AIDA's `"form" <TAB> Entity_with_underscores`, with quotes round the
    form and escapes such as \\u002c in both columns. Each line counts 1.
    "kolitsas": `form <TAB> total <TAB> id,weight,Title <TAB> id,weight,Title ...`, as
    end2end_neural_el and deep-ed write their p(e|m). A weight becomes a count as a
    share of the line's weights, which may be probabilities or counts.
    "rel": `form <TAB> {"Title": p, ...}`, two columns of the table `wiki` of REL.
    Of a bad candidate only itself is rejected, of the last two formats' lines.
    """
    least, most = _COLUMNS[format]
    for line, columns, raw in read_columns(path, rejects, least, most):
        try:
            pairs = _parse_candidates(columns, format)
            problem = name_problem(pairs[0][0]) if pairs else "no candidate"
            if problem:
                raise ValueError(problem)
        except ValueError as error:
            rejects.add(str(path), line, str(error), raw)
            continue
        for form, name, count in pairs:
            try:
                title, count = parse_title(name), _parse_count(count, format)
            except ValueError as error:
                rejects.add(str(path), line, str(error), f"{form}\t{name}\t{count}")
            else:
                yield Alias(form_key(form), title, count, line)


def end_redirects(
    redirects: Mapping[str, Redirect],
    pages: Container[str],
    rejects: Rejects,
) -> dict[str, str]:
    """alias -> the title at the end of its chain of redirects.

    pages: titles of pages, which end a chain. A redirect from one of them goes to
    `rejects`, and so does one that leads in a circle or over too many others.
    """
    targets = {alias: redirect.title for alias, redirect in redirects.items()}
    ends: dict[str, str] = {}
    for alias, (title, line, source) in redirects.items():
        end = follow_redirects(title, targets, pages)
        if alias in pages:
            reason = "redirect from a title that has a page"
        elif end in targets and end not in pages:
            reason = "redirect in a circle, or over too many others"
        else:
            ends[alias] = end
            continue
        rejects.add(source, line, reason, f"{alias}\t{title}")
    return ends


def redirect_links(links: pa.Table, ends: Mapping[str, str]) -> tuple[pa.Table, int]:
    """Links (columns of FORMS) with the title at the end of each redirect, and how many
    links that changed. ends: alias -> title."""
    coded = links["title"].combine_chunks().dictionary_encode()
    names = coded.dictionary.to_pylist()
    titles = pa.array([ends.get(name, name) for name in names], pa.large_string())
    moved = pa.array([name in ends for name in names], pa.bool_())
    count = pc.sum(links["count"].filter(moved.take(coded.indices))).as_py() or 0
    place = links.schema.get_field_index("title")
    titles = titles.take(coded.indices)
    return links.set_column(place, links.schema.field(place), titles), count


def known_redirects(
    redirects: Mapping[str, Redirect],
    ends: Mapping[str, str],
    known: Container[str],
    rejects: Rejects,
) -> dict[str, str]:
    """Those of `ends` that lead to a title in `known`; the others go to `rejects`."""
    good: dict[str, str] = {}
    for alias, title in ends.items():
        if title in known:
            good[alias] = title
        else:
            name, line, source = redirects[alias]
            reason = f"unknown title: {title}"
            rejects.add(source, line, reason, f"{alias}\t{name}")
    return good


def count_aliases(
    files: DictionaryFiles,
    ends: Mapping[str, str],
    known: Container[str],
    rejects: Rejects,
) -> tuple[Counter[tuple[str, str]], int]:
    """Counts of (form, title) over the file of aliases, and how many lines gave them.

    ends: redirects, which are followed. known: the titles of the entities; an alias of
    another title goes to `rejects`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    used = 0
    if files.aliases is None:
        return counts, used
    for alias in read_aliases(files.aliases, rejects, files.alias_format):
        title = ends.get(alias.title, alias.title)
        if title in known:
            counts[alias.form, title] += alias.count
            used += 1
        else:
            content = f"{alias.form}\t{alias.title}"
            reason = f"unknown title: {title}"
            rejects.add(str(files.aliases), alias.line, reason, content)
    return counts, used


def read_columns(
    path: str | os.PathLike, rejects: Rejects, least: int, most: int | None
) -> Iterator[tuple[int, list[str], str]]:
    """(line number, columns without spaces at their ends, line) of a TSV file.

    least, most: how many columns a line may have, None for any number. Other lines go
    to `rejects`.
    """
    for number, raw in decode_lines(path, rejects):
        columns = [column.strip() for column in raw.split("\t")]
        if not raw.strip():
            rejects.add(str(path), number, "empty line", raw)
        elif len(columns) < least or (most is not None and len(columns) > most):
            expected = {least: f"{least}", None: f"{least} or more"}.get(
                most, f"{least} or {most}"
            )
            reason = f"wrong columns: expected {expected}, found {len(columns)}"
            rejects.add(str(path), number, reason, raw)
        else:
            yield number, columns, raw


def parse_title(name: str) -> str:
    """An article's title in its one spelling. Raises ValueError with the reason why a
    name is none."""
    title = article_title(name.split("#")[0])
    if not title and name:
        raise ValueError("not the title of an article")
    problem = name_problem(title)
    if problem:
        raise ValueError(problem)
    return title


def _parse_candidates(
    columns: list[str], format: AliasFormat
) -> list[tuple[str, str, str]]:
    """(form, title, count or probability) of each candidate on a line, as written.

    Raises ValueError for a line that is not what `format` says.
    """
    form, *rest = columns
    if format == "aida_means":
        return [(*_parse_aida(form, rest[0]), "1")]
    if format == "rel":
        return [(form, title, p) for title, p in _parse_rel(rest[0])]
    if format == "kolitsas":
        return [(form, title, p) for title, p in _parse_kolitsas(rest[1:])]
    return [(form, rest[0], rest[1] if len(rest) == 2 else "1")]


def _parse_kolitsas(candidates: list[str]) -> list[tuple[str, str]]:
    """(title, its share of the weights) of candidates "id,weight,Title"."""
    parts = [candidate.split(",", 2) for candidate in candidates if candidate]
    for part in parts:
        if len(part) != 3 or not _PROBABILITY.fullmatch(part[1]):
            raise ValueError(
                f"bad candidate: expected id,weight,Title, found {','.join(part)!r:.60}"
            )
    total = sum(float(weight) for _, weight, _ in parts)
    if not 0 < total < float("inf"):
        raise ValueError(f"bad weights: expected a sum above 0, found {total}")
    return [(title, f"{float(weight) / total:.6f}") for _, weight, title in parts]


def _parse_rel(column: str) -> list[tuple[str, str]]:
    """(title, probability) from a JSON object, or a list of pairs, of these."""
    try:
        content = json.loads(column)
        pairs = content.items() if isinstance(content, dict) else content
        # A title that is no string has no str.strip, which is a TypeError.
        return [(str.strip(title), str(p)) for title, p in pairs]
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"not JSON of titles and probabilities: {error}") from None


def _parse_count(column: str, format: AliasFormat) -> int:
    """A count, at least 1. Raises ValueError for a column that is not what `format`
    says."""
    if format in ("counts", "aida_means"):
        if not _COUNT.fullmatch(column) or not int(column):
            raise ValueError(
                f"bad count: expected a whole number, found {column!r:.40}"
            )
        return int(column)
    if not _PROBABILITY.fullmatch(column) or float(column) > 1:
        raise ValueError(f"bad probability: expected 0 to 1, found {column!r:.40}")
    return max(1, round(LINKS_A_FORM * float(column)))


def _parse_aida(form: str, entity: str) -> tuple[str, str]:
    """The two columns of a line of aida_means, without quotes and escapes."""
    if len(form) < 2 or form[0] != '"' or form[-1] != '"':
        raise ValueError("surface form without quotes")
    return _unescape(form[1:-1]), _unescape(entity)


def _unescape(text: str) -> str:
    """A text with the character for each escape \\uXXXX. Raises ValueError for a bad
    escape."""

    def character(escape: regex.Match) -> str:
        if escape[1] is None:
            raise ValueError("bad escape: expected four hexadecimal digits after \\u")
        return chr(int(escape[1], 16))

    text = _ESCAPE.sub(character, text)
    if has_surrogate(text):  # two escapes may stand for one character beyond U+FFFF
        code_units = text.encode("utf-16-le", "surrogatepass")
        text = code_units.decode("utf-16-le", "surrogatepass")
    return text
