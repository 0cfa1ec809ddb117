"""Linked documents in; one HTML page that shows them out. It loads nothing else.

Text and titles are escaped; a mention is marked and followed by its entity.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from insgenel_jax.text.document import Document, Mention

# A page may not hold most control characters.
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\ufffd")

_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>Linked documents</title>
<style>
:root { --paper: #faf8f4; --ink: #22252a; --soft: #666b74; --wash: #d7eee6; \
--link: #0f6b5c; --nil: #e8e4dc }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --ink: #e6e3dc; \
--soft: #9b9fa8; --wash: #1d4a41; --link: #6fd1bb; --nil: #33373d } }
body { max-width: 46rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; \
background: var(--paper); color: var(--ink); font: 1.1rem/2 Charter, Georgia, serif }
article { margin: 2rem 0 }
h2, small, ul { font-family: system-ui, sans-serif; color: var(--soft) }
h2 { font-size: .9rem; font-weight: 600; margin: 0; overflow-wrap: anywhere }
p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; \
unicode-bidi: plaintext }
mark { color: inherit; background: var(--wash); border-radius: .35em; \
padding: .2em .35em; -webkit-box-decoration-break: clone; box-decoration-break: clone }
mark.nil { background: var(--nil) }
mark b { font: 600 .68em/1 system-ui, sans-serif; color: var(--link); \
margin-left: .5em; unicode-bidi: isolate }
ul { font-size: .85rem; line-height: 1.5; padding-left: 1.2rem; margin: .3rem 0 }
</style>"""


def write_html(documents: Iterable[Document]) -> Iterator[str]:
    """Yield the page in pieces: its head, each document, its end."""
    yield _HEAD
    for document in documents:
        yield render(document)
    yield "</html>"


def render(document: Document) -> str:
    """The HTML of one document. Mentions that overlap another are listed below it."""
    text = document.text
    parts, listed, at = [], [], 0
    for mention in document.mentions:
        if mention.start < at:
            surface = _escape(text[mention.start : mention.end])
            listed.append(f"<li>{surface}: {_label(mention)}</li>")
            continue
        parts += [_escape(text[at : mention.start]), _mark(text, mention)]
        at = mention.end
    parts.append(_escape(text[at:]))
    also = f"<ul>{''.join(listed)}</ul>" if listed else ""
    head = _escape(document.title or document.id)
    return f"<article><h2>{head}</h2><p>{''.join(parts)}</p>{also}</article>"


def _mark(text: str, mention: Mention) -> str:
    """A mention, marked. Other candidates show where the pointer rests on it."""
    others = [f"{c.entity} {c.score:.2f}" for c in mention.candidates]
    title = f' title="{_escape("; ".join(others))}"' if others else ""
    kind = "" if mention.entity is not None else ' class="nil"'
    surface = _escape(text[mention.start : mention.end])
    return f"<mark{kind}{title}>{surface}<b>{_label(mention)}</b></mark>"


def _label(mention: Mention) -> str:
    """The entity of a mention, its id and its score."""
    label = [mention.entity or "NIL", mention.external_id or ""]
    label += [] if mention.score is None else [f"{mention.score:.2f}"]
    return _escape(" ".join(part for part in label if part))


def _escape(text: str) -> str:
    return html.escape(text.translate(_CONTROLS))
