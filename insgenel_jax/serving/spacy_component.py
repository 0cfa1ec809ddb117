"""spaCy documents in; the same with linked entities out: nlp.add_pipe("insgenel").

It needs the extra `spacy`. The entry point in setup.py lets spaCy find the component.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans, minibatch

from insgenel_jax.linker.linker import Linker
from insgenel_jax.text.document import Document, document_to_json

DEFAULTS: dict[str, Any] = {
    "linker": "nano",
    "given": False,
    "candidates": 5,
    "label": "ENTITY",
    "settings": {},
}
GROUP = 64  # documents that are linked together where `nlp.pipe` gives no batch size


class EntityLinker:
    """Links spaCy documents. `nlp.add_pipe("insgenel", config={...})` makes one.

    given: link the document's own entities (`doc.ents`) and find no others. Otherwise
    what the linker finds becomes an entity with `label`, or keeps the label of an
    entity that stands there; other entities stay where they do not overlap it.

    An entity gets `kb_id_`: the external id of what it is linked to, or its title where
    it has none. `doc._.links` has all that `Linker` says, as in its JSON, with up to
    `candidates` other candidates each: also links that start or end within a token,
    whose span in `doc.ents` is the tokens around them.
    """

    def __init__(
        self, linker: Linker, given: bool = False, label: str = "ENTITY"
    ) -> None:
        self.linker = linker
        self.given = given
        self.label = label
        if not Doc.has_extension("links"):
            Doc.set_extension("links", default=())

    def __call__(self, doc: Doc) -> Doc:
        """Link one document, in place."""
        self._link([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = GROUP) -> Iterator[Doc]:
        """Link documents as they come, `batch_size` at a time."""
        for docs in minibatch(stream, size=batch_size):
            self._link(docs)
            yield from docs

    def _link(self, docs: list[Doc]) -> None:
        given = None
        if self.given:
            given = [[(e.start_char, e.end_char) for e in doc.ents] for doc in docs]
        linked = self.linker([doc.text for doc in docs], mentions=given)
        for doc, document in zip(docs, linked, strict=True):
            self._annotate(doc, document)

    def _annotate(self, doc: Doc, document: Document) -> None:
        """Write the links of a document into the doc."""
        doc._.links = document_to_json(document)["mentions"]
        own = {(e.start_char, e.end_char): e for e in doc.ents}
        spans: list[Span] = []
        for mention in document.mentions:
            before = own.get((mention.start, mention.end))
            span = doc.char_span(
                mention.start,
                mention.end,
                label=self.label if before is None else before.label_,
                kb_id=mention.external_id or mention.entity or "",
                alignment_mode="expand",
            )
            if span is not None:
                if before is not None:
                    span.id_ = before.id_
                spans.append(span)
        linked = filter_spans(spans)
        taken = {token.i for span in linked for token in span}
        others = [e for e in doc.ents if not taken & {token.i for token in e}]
        doc.set_ents(linked + others)


def make_component(
    nlp: Language,
    name: str,
    linker: str,
    given: bool,
    candidates: int,
    label: str,
    settings: dict[str, Any],
) -> EntityLinker:
    """The component of a pipeline. linker: "nano" or a directory. candidates: 0 gives
    none. settings: those of the linker, such as {"threshold": 0.5}."""
    if candidates:
        settings = {"other_candidates": candidates} | settings
    opened = Linker.from_pretrained(linker, **settings)
    return EntityLinker(opened, given, label)


Language.factory(
    "insgenel",
    default_config=DEFAULTS,
    assigns=["doc.ents", "doc._.links", "token.ent_kb_id"],
    # spaCy reads the names of the arguments off the function itself
    func=lambda nlp, name, linker, given, candidates, label, settings: make_component(
        nlp, name, linker, given, candidates, label, settings
    ),
)
