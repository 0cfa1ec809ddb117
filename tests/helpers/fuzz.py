"""Hostile input by chance: lines of documents, changes of artifacts. Seeds are kept.

Every case follows from its seed alone, so that a failure can be run again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

NAMES = ("Paris", "Java", "Mercury", "PARIS", "paris", "Pa\u0301ris", "Ja\u200bva")
ODD = (
    "\0\x07\x1b[2J\x7f\x85\u200b\u200e\u202e\u2028\ufeff\ufffd\U0010ffff\U000e0041"
    "{}[]()\\\"'`<>&|%$\t\v\f\r\u00a0\u3000\u0301\u0308\u1100\u1161\u11a8\u05d0\u0627"
    "\u4e1c\u0e01\u0e33\U0001f469\u200d\U0001f680\ufb01\u00df\u0130\u03a3"
)
DEEP = "[" * 3000 + "]" * 3000


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a JSONL file. record: what has to come back; None where it is bad.

    Where `unsure`, a bit of a good line was flipped: it may be either.
    """

    content: bytes
    record: dict | None = None
    unsure: bool = False


def hostile_line(seed: int) -> Line:
    """A line that holds a document, or does not."""
    chance = random.Random(seed)
    record = _record(chance)
    plain = json.dumps(record, ensure_ascii=False)
    if chance.random() < 0.5 or "\ud800" in plain:  # which UTF-8 cannot hold
        plain = json.dumps(record)
    content = plain.encode()
    kind = chance.random()
    if kind < 0.7:
        return Line(content, record)
    if kind < 0.8:
        at = chance.randrange(len(content))
        flipped = bytes([content[at] ^ 1 << chance.randrange(8)])
        content = (content[:at] + flipped + content[at + 1 :]).replace(b"\n", b" ")
        return Line(content, unsure=True)
    return Line(chance.choice(BREAKS)(record, content, chance))


def _text(chance: random.Random) -> str:
    """Names, odd characters, and characters of any kind but surrogates."""
    parts = []
    for _ in range(chance.randrange(12)):
        kind = chance.random()
        if kind < 0.4:
            parts.append(chance.choice(NAMES))
        elif kind < 0.7:
            parts.append(chance.choice(ODD) * chance.choice((1, 1, 1, 40)))
        else:
            code = chance.randrange(0x110000)
            parts.append("x" if 0xD800 <= code < 0xE000 else chr(code))
        parts.append(chance.choice(("", " ", ". ", "\n")))
    text = "".join(parts)
    return unicodedata.normalize("NFD", text) if chance.random() < 0.2 else text


def _record(chance: random.Random) -> dict:
    """A good document, with fields of its own and mentions of its own."""
    text = _text(chance)
    identifier = chance.choice((chance.randrange(-9, 99), _text(chance), str(chance)))
    record: dict = {"id": identifier, "text": text}
    if text and chance.random() < 0.3:
        start = chance.randrange(len(text))
        end = chance.randrange(start, len(text)) + 1
        entity = chance.choice((None, _text(chance)))
        record["mentions"] = [{"start": start, "end": end, "entity": entity}]
    if chance.random() < 0.3:
        field = chance.choice(
            (None, 1.5, [1, {"text": "\ud800"}], 10**30, _text(chance))
        )
        record[_text(chance) or "more"] = field
        record |= {"id": identifier, "text": text}  # where a name was one of these
    return record


def _change(**fields) -> Callable[[dict, bytes, random.Random], bytes]:
    return lambda record, content, chance: json.dumps(record | fields).encode()


BREAKS: tuple[Callable[[dict, bytes, random.Random], bytes], ...] = (
    lambda record, content, chance: content[: chance.randrange(1, len(content))],
    lambda record, content, chance: content[:-1] + b"\xff}",
    lambda record, content, chance: DEEP.encode(),
    lambda record, content, chance: b'{"id": 1, "text": "", "x": %s}' % DEEP.encode(),
    lambda record, content, chance: b'{"id": %s, "text": ""}' % (b"9" * 5000),
    lambda record, content, chance: b"\0",
    _change(text=None),
    _change(text="\ud800"),
    _change(id=True),
    _change(title=7),
    _change(mentions=[[]]),
    _change(mentions=[{"start": 0, "end": 10**9, "entity": "x"}]),
    _change(mentions=[{"start": -1, "end": 0, "entity": "x"}]),
    _change(text="ab", mentions=[{"start": 0, "end": 1.0, "entity": "x"}]),
)


def tamper(folder: Path, seed: int) -> Callable[[], None]:
    """Change something in a directory; returns what changes it back."""
    chance = random.Random(seed)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    file, other = chance.choice(files), chance.choice(files)
    content = file.read_bytes()
    kind = chance.choice(("flip", "flip", "cut", "grow", "swap", "gone", "new", "link"))
    if kind == "new":
        added = file.with_name(chance.choice(("model.safetensors.index.json", "x.bin")))
        if not added.exists():
            added.write_bytes(other.read_bytes())
            return added.unlink
        kind = "grow"
    if kind == "flip" and content:
        at = chance.randrange(len(content))
        bit = content[at] ^ 1 << chance.randrange(8)
        changed: bytes | None = content[:at] + bytes([bit]) + content[at + 1 :]
    elif kind == "cut":
        changed = content[: chance.randrange(len(content) or 1)]
    elif kind == "swap":
        changed = other.read_bytes()
    elif kind in ("gone", "link"):
        changed = None
    else:
        changed = content + b"\0"
    file.unlink()
    if changed is not None:
        file.write_bytes(changed)
    elif kind == "link":
        os.symlink(folder / "nowhere", file)

    def undo() -> None:
        file.unlink(missing_ok=True)
        file.write_bytes(content)

    return undo
