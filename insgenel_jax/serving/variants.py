"""What a request asks for in; the linker that does it, over the same parts, out."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple

from insgenel_jax.linker.linker import Linker
from insgenel_jax.linker.tuned import CalibrationWarning
from insgenel_jax.serving.limits import Refusal

CANDIDATES = 20  # the most other candidates that a request may ask for


class Variant(NamedTuple):
    """What changes how texts are linked. None: as the linker is set.

    candidates: whether mentions come with other candidates; unlinked: whether those
    that were passed over come too.
    """

    system: str | None = None
    decoder: str | None = None
    candidates: bool = False
    unlinked: bool = False


@dataclasses.dataclass(frozen=True)
class Opened:
    """The linker of a variant, with threshold 0, and the threshold that is its own."""

    linker: Linker
    threshold: float


class Variants:
    """The linkers of the variants asked for so far; there are few, and all are kept."""

    def __init__(self, linker: Linker) -> None:
        self.linker = linker
        self._opened: dict[Variant, Opened] = {}

    def open(self, variant: Variant) -> Opened:
        """The linker of a variant. Raises Refusal for what the linker cannot do."""
        if variant not in self._opened:
            try:
                self._opened[variant] = self._open(variant)
            except ValueError as error:
                raise Refusal(422, str(error)) from error
        return self._opened[variant]

    def _open(self, variant: Variant) -> Opened:
        own = self.linker.settings
        asked: dict[str, Any] = {}
        if variant.system is not None:
            asked["system"] = variant.system
        if variant.decoder is not None:
            asked["decoder"] = variant.decoder
        elif (variant.candidates or variant.unlinked) and not own.searches:
            asked["decoder"] = "auto"  # whichever is set, they give the same answer
        if variant.candidates:
            asked["other_candidates"] = CANDIDATES
        if variant.unlinked:
            asked["consider_unlinked"] = True
        with warnings.catch_warnings():  # answers say whether they are calibrated
            warnings.simplefilter("ignore", CalibrationWarning)
            linker = self.linker.with_settings(**asked) if asked else self.linker
            return Opened(
                linker.with_settings(threshold=0.0), linker.settings.threshold
            )
