"""LLaMA 1 and 2's SentencePiece model in; the content of a `tokenizer.json` out.

We read the file ourselves. The converter of transformers needs the packages
sentencepiece and protobuf, which nothing else here uses at run time, and its merges
give other ids on runs of spaces than SentencePiece, with which the model was trained.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from insgenel_jax.tokenizer.literal import SPACE, Family, added_token

# types of a piece
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
# numbers of fields in the messages ModelProto, its pieces, TrainerSpec, NormalizerSpec
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE, _SCORE, _TYPE = 1, 2, 3
_MODEL_TYPE, _SUFFIX_SPACES, _BYTE_FALLBACK = 3, 24, 35
_CHARACTER_MAP, _DUMMY_PREFIX, _REMOVE_SPACES = 2, 3, 4
_BPE = 2
_FIXED_SIZES = {1: 8, 5: 4}  # bytes of a value, by wire type


@dataclasses.dataclass(frozen=True)
class _Model:
    """(piece, score, type) of each id; the fields of the model's two other messages."""

    pieces: list[tuple[str, float, int]]
    trainer: dict[int, Any]
    normalizer: dict[int, Any]


def read_sentencepiece(data: bytes, file: Path) -> Family:
    """A SentencePiece BPE model with byte fallback that does not normalise: LLaMA's.

    Raises ValueError for another kind of model and for damaged data.
    """
    model = _parse(data, file)
    _check_kind(model, file)
    ids = {piece: i for i, (piece, _, _) in enumerate(model.pieces)}
    special = [(p, ids[p]) for p, _, t in model.pieces if t in (_UNKNOWN, _CONTROL)]
    prefix = model.normalizer.get(_DUMMY_PREFIX, 1)
    prepend = [{"type": "Prepend", "prepend": "▁"}] if prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    content = {
        "version": "1.0",
        "added_tokens": [added_token(*token) for token in special],
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, SPACE]},
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "vocab": ids,
            "merges": _merges([p[:2] for p in model.pieces if p[2] == _NORMAL]),
            "byte_fallback": True,
            "fuse_unk": True,
            "unk_token": model.pieces[0][0],
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
    }
    return content, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": None}


def _parse(data: bytes, file: Path) -> _Model:
    pieces: list[tuple[str, float, int]] = []
    messages: dict[int, dict[int, Any]] = {_TRAINER: {}, _NORMALIZER: {}}
    try:
        for number, value in _fields(data):
            if number == _PIECES:
                piece = dict(_fields(value))
                (score,) = struct.unpack("<f", piece.get(_SCORE, bytes(4)))
                kind = piece.get(_TYPE, _NORMAL)
                pieces.append((piece[_PIECE].decode(), score, kind))
            elif number in messages:
                messages[number] = dict(_fields(value))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error):
        pieces = []
    if not pieces:
        raise ValueError(
            f"{file}: expected a SentencePiece model or tiktoken's lines of base64 and "
            f"rank, found {len(data)} bytes that begin {data[:24]!r}; the file may be "
            "cut off, or a pointer to a large file"
        )
    return _Model(pieces, messages[_TRAINER], messages[_NORMALIZER])


def _check_kind(model: _Model, file: Path) -> None:
    trainer, normalizer = model.trainer, model.normalizer
    types = {kind for _, _, kind in model.pieces}
    wrong = {
        "model type BPE (2)": trainer.get(_MODEL_TYPE, 1) != _BPE,
        "byte fallback": not trainer.get(_BYTE_FALLBACK, 0),
        "spaces before words": bool(trainer.get(_SUFFIX_SPACES, 0)),
        "identity normalisation": bool(normalizer.get(_CHARACTER_MAP)),
        "spaces kept": bool(normalizer.get(_REMOVE_SPACES, 1)),
        "no user-defined or unused pieces": not types
        <= {_NORMAL, _UNKNOWN, _CONTROL, _BYTE},
    }
    if any(wrong.values()):
        raise ValueError(
            f"{file}: expected LLaMA's kind of SentencePiece model, found one without "
            f"{', '.join(what for what, missing in wrong.items() if missing)}; give "
            "the model's tokenizer.json instead"
        )


def _merges(pieces: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """The merges that make pieces of (piece, score), the highest score first.

    SentencePiece ranks pieces by score and, among equal candidates, merges the leftmost
    first. A list of merges ranks pairs instead. Both agree if, among pairs of one
    score, the pair with the longer left half comes first: a run of spaces, whose pieces
    all have the same score in LLaMA's model, then grows from the left. The tests
    compare with the sentencepiece library.
    """
    known = {piece for piece, _ in pieces}
    merges = [
        (-score, -cut, piece[:cut], piece[cut:])
        for piece, score in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]
    merges.sort(key=lambda merge: merge[:2])
    return [(left, right) for _, _, left, right in merges]


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of the fields of a protobuf message.

    Values of 4 and 8 bytes stay bytes. Raises IndexError or ValueError where the bytes
    are cut off or are no message.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire_type == 2:
            length, at = _varint(data, at)
        elif wire_type in _FIXED_SIZES:
            length = _FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type}")
        if at + length > len(data):
            raise IndexError(at)
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer at a place of a protobuf message, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
