"""The grammar of linked text, on tokens, both ways; and the prompt.

    prompt := BOS instruction source EOS
    target := { source_token | OPEN source_token+ CLOSE ENTITY title_token+ END } EOS

The prompt holds the canonical tokens of the text. In the target the text is cut at
fixed places that depend on the text alone, so that a link can start or end between a
word and punctuation, and each piece is tokenised on its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import regex
from jaxtyping import Bool, Int, Int32

from insgenel_jax.text.document import Mention, normalise
from insgenel_jax.tokenizer import Tokenizer

INSTRUCTION = (
    "Mark every mention of an entity in the text below and name the entity, as in "
    "{ mention } [ Entity title ]."
)

# A piece holds no cut: its words and punctuation marks are set apart by spaces. A cut
# lies where a word touches a punctuation mark, or two punctuation marks touch.
_ATOM = r"(?:[\p{L}\p{M}\p{N}]+|[^ \p{L}\p{M}\p{N}])"
_PIECE = regex.compile(rf" *{_ATOM}(?: +{_ATOM})*| +")

Link = tuple[int, int, list[int]]  # token start, token end, title ids


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The source tokens of a target, with the characters [starts, ends) of each.

    Spaces before a word lie outside its token's characters; a token of spaces alone has
    start == end. A text that is cut before a token with `can_begin`, or behind one with
    `can_end`, keeps its tokens on the inner side: `slice_source` relies on it.
    """

    ids: Int32[np.ndarray, " T"]
    starts: Int32[np.ndarray, " T"]
    ends: Int32[np.ndarray, " T"]
    can_begin: Bool[np.ndarray, " T"]
    can_end: Bool[np.ndarray, " T"]

    def __len__(self) -> int:
        return len(self.ids)


def encode_source(tokenizer: Tokenizer, text: str) -> Tokens:
    """The tokens of `text` in a target: cut, each piece tokenised on its own."""
    if not text:
        return Tokens(*(np.zeros(0, kind) for kind in ["int32"] * 3 + [bool] * 2))
    text = " " + normalise(text)
    spans = [match.span() for match in _PIECE.finditer(text)]
    pieces = tokenizer.encode_raw([text[start:end] for start, end in spans])
    counts = [len(piece[0]) for piece in pieces]
    ids = np.concatenate([piece[0] for piece in pieces])
    shifts = np.repeat([start for start, _ in spans], counts)
    starts = np.concatenate([piece[1] for piece in pieces]) + shifts
    ends = np.concatenate([piece[2] for piece in pieces]) + shifts
    runs = [match.span() for match in regex.finditer(" +", text)]
    can_begin, can_end = _find_cuts(
        text, runs if tokenizer.splits_before_spaces else [], starts, ends
    )
    # behind each piece, whatever the tokenizer
    can_end[[last - 1 for last in np.cumsum(counts) if last]] = True
    # first character behind the leading spaces, for every position of the text
    behind = np.arange(len(text) + 1)
    for first, last in runs:
        behind[first:last] = last
    starts = np.minimum(behind[starts], ends)
    back = np.maximum(np.stack([starts, ends]) - 1, 0).astype(np.int32)
    return Tokens(ids.astype(np.int32), back[0], back[1], can_begin, can_end)


def _find_cuts(
    text: str,
    runs: Sequence[tuple[int, int]],
    starts: Int[np.ndarray, " T"],
    ends: Int[np.ndarray, " T"],
) -> tuple[Bool[np.ndarray, " T"], Bool[np.ndarray, " T"]]:
    """Where a text can be cut at one of its runs of spaces: `can_begin`, `can_end`.

    The tokenizer splits before every run, so that the text before it keeps its tokens.
    The text behind it does so only if the run is a single space, since that is what
    `encode_source` puts before a text.
    """
    run, single = np.zeros((2, len(text) + 1), bool)
    for first, last in runs:
        if first and not text[first - 1].isspace():
            run[first], single[first] = True, last == first + 1
    apart = np.ones(len(starts), bool)  # shares no character with the token before it
    apart[1:] = ends[:-1] <= starts[1:]
    can_end = np.ones(len(starts), bool)
    can_end[:-1] = (run[starts] & apart)[1:]
    return single[starts] & apart, can_end


def slice_source(tokens: Tokens, start: int, end: int) -> Tokens | None:
    """The tokens of characters [start, end) of a text, out of `tokens` of all of it.

    They equal `encode_source` of these characters alone. None where that cannot be known
    without encoding them: the tokenizer does not split before spaces, or an edge lies
    inside a word or beside several spaces.
    """
    first = int(np.searchsorted(tokens.starts, start, side="left")) if start else 0
    last = int(np.searchsorted(tokens.ends, end, side="right"))
    if first >= last or tokens.ends[last - 1] != end or not tokens.can_end[last - 1]:
        return None
    if start and not (tokens.starts[first] == start and tokens.can_begin[first]):
        return None
    return Tokens(
        tokens.ids[first:last],
        tokens.starts[first:last] - np.int32(start),
        tokens.ends[first:last] - np.int32(start),
        tokens.can_begin[first:last],
        tokens.can_end[first:last],
    )


def encode_prompt(tokenizer: Tokenizer, instruction: str, text: str) -> list[int]:
    """BOS instruction source EOS, with the canonical tokens of the text."""
    # the instruction may hold braces: they stand in no target
    parts = [" " + part for part in (instruction, normalise(text)) if part]
    ids = [encoded[0] for encoded in tokenizer.encode_raw(parts)]
    return [
        tokenizer.bos,
        *np.concatenate([*ids, [tokenizer.eos]]).astype(int).tolist(),
    ]


def encode_titles(tokenizer: Tokenizer, titles: Sequence[str]) -> list[list[int]]:
    """The canonical tokens of each title, after a space.

    Not a token for a title that the tokenizer has no tokens for, or not for all of it:
    what is left of it might be another entity's title.
    """
    texts = [" " + normalise(title) for title in titles]
    encoded = zip(
        tokenizer.encode_raw(texts), tokenizer.has_unknown(texts), strict=True
    )
    return [[] if unknown else ids.tolist() for (ids, _, _), unknown in encoded]


def find_tokens(tokens: Tokens, start: int, end: int) -> tuple[int, int] | None:
    """Tokens [i, j) that cover characters [start, end) exactly, or None."""
    i = int(np.searchsorted(tokens.starts, start, side="left"))
    j = int(np.searchsorted(tokens.ends, end, side="right"))
    if i >= j or tokens.ends[j - 1] != end or tokens.starts[j - 1] == end:
        return None
    word = i  # the first token that is not of spaces alone
    while tokens.starts[word] == tokens.ends[word]:
        word += 1
    if tokens.starts[word] != start or (i and tokens.ends[i - 1] > start):
        return None
    if j < len(tokens) and tokens.starts[j] < end:
        return None
    return i, j


def align(
    tokens: Tokens, mentions: Iterable[Mention]
) -> tuple[list[tuple[int, int, Mention]], int]:
    """Put mentions on tokens: (token start, token end, mention) each, in order.

    The second value counts the mentions dropped because they start or end inside a
    token or overlap the one before.
    """
    aligned, dropped, reached = [], 0, 0
    for mention in sorted(mentions, key=lambda m: (m.start, -m.end)):
        span = find_tokens(tokens, mention.start, mention.end)
        if span is None or span[0] < reached:
            dropped += 1
            continue
        aligned.append((*span, mention))
        reached = span[1]
    return aligned, dropped


def format_target(
    tokenizer: Tokenizer, tokens: Tokens, links: Iterable[Link]
) -> list[int]:
    """The target ids of source tokens with links (in order, not overlapping)."""
    source, target, pointer = tokens.ids.tolist(), [], 0
    for start, end, title in links:
        if not pointer <= start < end <= len(source):
            raise ValueError(
                f"link on tokens [{start}, {end}): expected links in order and not "
                f"overlapping within [{pointer}, {len(source)})"
            )
        target += source[pointer:start]
        target += [tokenizer.open, *source[start:end], tokenizer.close]
        target += [tokenizer.entity, *title, tokenizer.end]
        pointer = end
    return [*target, *source[pointer:], tokenizer.eos]


def parse_target(
    tokenizer: Tokenizer, tokens: Tokens, ids: Sequence[int]
) -> list[Link]:
    """Read the links off target ids; the inverse of `format_target`.

    Raises ValueError that names the first position that breaks the grammar.
    """
    source, links, pointer, at = tokens.ids.tolist(), [], 0, 0
    ids = list(ids)

    def expect(expected: int, what: str) -> None:
        nonlocal at
        found = ids[at] if at < len(ids) else None
        if found != expected:
            raise ValueError(
                f"target position {at}: expected {what} ({expected}), found {found}"
            )
        at += 1

    while at < len(ids) and ids[at] != tokenizer.eos:
        if ids[at] != tokenizer.open or pointer == len(source):
            expect(source[pointer] if pointer < len(source) else tokenizer.eos, "copy")
            pointer += 1
            continue
        at += 1
        start = pointer
        while pointer < len(source) and at < len(ids) and ids[at] != tokenizer.close:
            expect(source[pointer], "copy")
            pointer += 1
        if pointer == start:
            raise ValueError(f"target position {at}: expected a mention, found none")
        expect(tokenizer.close, "CLOSE")
        expect(tokenizer.entity, "ENTITY")
        title = []
        while at < len(ids) and ids[at] not in (tokenizer.end, tokenizer.eos):
            title.append(ids[at])
            at += 1
        if not title:
            raise ValueError(f"target position {at}: expected a title, found none")
        expect(tokenizer.end, "END")
        links.append((start, pointer, title))
    if pointer < len(source):
        raise ValueError(
            f"target position {at}: expected source token {pointer} of {len(source)}, "
            "found the end"
        )
    expect(tokenizer.eos, "EOS")
    return links
