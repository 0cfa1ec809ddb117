"""What a service accepts, and the refusal of what it does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from insgenel_jax.text.document import Document


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of a service; what exceeds one is refused with the reason.

    body: bytes of a request. bodies: bytes of all requests at one time. documents: of
    one request. characters: of one document. queue: documents that wait to be linked.
    seconds: from the arrival of a request to its answer. delay: for how many seconds a
    document may wait for others, so that they are linked as one batch. connections:
    open at one time.
    """

    body: int = 4 << 20
    bodies: int = 128 << 20
    documents: int = 64
    characters: int = 50_000
    queue: int = 256
    seconds: float = 30.0
    delay: float = 0.01
    connections: int = 1024

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), 1
            if field.name in ("seconds", "delay"):
                least = 0
            if not value >= least:
                raise ValueError(
                    f"{field.name}: expected at least {least}, found {value}"
                )


class Refusal(Exception):
    """A request that gets no answer but this status and the reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


def check_size(documents: Sequence[Document], limits: Limits) -> None:
    """Raise Refusal for too many documents, or for one that is too long."""
    if len(documents) > limits.documents:
        raise Refusal(
            413,
            f"documents: expected at most {limits.documents}, found {len(documents)}; "
            "send them in several requests",
        )
    for number, document in enumerate(documents):
        if (length := len(document.text)) > limits.characters:
            raise Refusal(
                413,
                f"document {number}: expected at most {limits.characters:,} "
                f"characters, found {length:,}; send it in parts",
            )
