"""What tuning leaves in a linker's linker.json: settings, calibration, documents.

    {"settings": {...}, "calibration": {"calibrator", "parts", "settings"},
     "tuned_on": {name of a set: [hash of the text of each document]}}

A calibrator holds for the parts and the settings that it was fitted with. In a
directory with other parts it is refused. With other settings it is set aside.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from insgenel_jax import artifact
from insgenel_jax.linker.calibrator import Calibrator
from insgenel_jax.linker.directory import BESIDE, FILE, VERSION, check_retrieval
from insgenel_jax.linker.settings import (
    Settings,
    current_names,
    make_settings,
    read_settings,
    scoring_settings,
)

# the settings that mean calibrated scores once a linker is tuned, and their defaults
_ON_SCORES = {"threshold": 0.0, "consider_unlinked": False}


class CalibrationWarning(UserWarning):
    """A linker's calibrator does not hold for the settings it is opened with."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A calibrator, and what it was fitted with.

    parts: the identity of the linker's parts, see `identify_parts`.
    """

    calibrator: Calibrator
    parts: str
    settings: Settings

    def differences(self, settings: Settings) -> list[str]:
        """The settings with which the calibrator does not hold, with both values."""
        fitted, now = scoring_settings(self.settings), scoring_settings(settings)
        return [
            f"{name} = {now.get(name)!r} (fitted with {fitted.get(name)!r})"
            for name in sorted(fitted.keys() | now.keys())
            if fitted.get(name) != now.get(name)
        ]


def settle(
    calibration: Calibration | None, settings: Settings, named: Collection[str]
) -> Settings:
    """The settings of a linker, once it is known whether its calibrator holds.

    Where it does not hold, scores are uncalibrated. The stored `threshold` and
    `consider_unlinked` mean calibrated scores; so they go back to their defaults unless
    the caller named them. A CalibrationWarning says all this.
    """
    if calibration is None or not (differs := calibration.differences(settings)):
        return settings
    bare = uncalibrated(settings, named)
    gone = " and ".join(
        f"{name} = {getattr(settings, name)}"
        for name in _ON_SCORES
        if getattr(settings, name) != getattr(bare, name)
    )
    warnings.warn(
        "the linker's calibrator does not hold with "
        + ", ".join(differs)
        + "; scores are uncalibrated"
        + (f", and the tuned {gone} left out" if gone else "")
        + ". Tune the linker with these settings, or leave them out",
        CalibrationWarning,
        stacklevel=3,
    )
    return bare


def uncalibrated(settings: Settings, named: Collection[str]) -> Settings:
    """Settings without what means calibrated scores, unless the caller named it."""
    changed = {k: v for k, v in _ON_SCORES.items() if k not in named}
    return dataclasses.replace(settings, **changed)


def identify_parts(made_from: Mapping[str, str]) -> str:
    """The identity of a linker's parts. made_from: part -> identity."""
    return hashlib.sha256(
        json.dumps(dict(made_from), sort_keys=True).encode()
    ).hexdigest()


def read_calibration(path: Path, made_from: Mapping[str, str]) -> Calibration | None:
    """The calibration that a linker directory keeps; None where it keeps none.

    made_from: the linker's parts and their identities. Raises ArtifactError for one
    that is damaged or was fitted on other parts.
    """
    file = path / FILE
    record = artifact.read_json(file, "settings").get("calibration")
    if record is None:
        return None
    try:
        calibration = Calibration(
            Calibrator.from_json(record["calibrator"]),
            str(record["parts"]),
            make_settings(current_names(record["settings"]), file),
        )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise artifact.ArtifactError(
            f"{file}: calibration: {error}; take it out of the file, or put the linker "
            "together again and tune it"
        ) from error
    actual = identify_parts(made_from)
    if calibration.parts != actual:
        raise artifact.ArtifactError(
            f"{file}: calibration: expected one fitted on this linker's parts "
            f"({actual[:12]}), found one of others ({calibration.parts[:12]}); the "
            "file belongs to another linker: put this one together again and tune it"
        )
    return calibration


def read_tuned_on(path: str | os.PathLike) -> dict[str, list[str]]:
    """The documents that a linker was tuned on: name of a set -> hashes of texts.

    Where there is no linker.json there are none; opening the linker says what is wrong.
    """
    file = Path(path) / FILE
    if not file.is_file():
        return {}
    tuned_on = artifact.read_json(file, "settings").get("tuned_on") or {}
    if not isinstance(tuned_on, dict) or not all(
        isinstance(hashes, list) for hashes in tuned_on.values()
    ):
        raise artifact.ArtifactError(
            f"{file}: tuned_on: expected lists of hashes by the names of sets, found "
            f"{str(tuned_on)[:200]}; take it out of the file"
        )
    return tuned_on


def write_tuned(
    path: str | os.PathLike,
    settings: Settings,
    calibrator: Calibrator,
    tuned_on: Mapping[str, list[str]],
) -> None:
    """Write what tuning found into a linker directory, aside and committed last.

    settings: those with which the calibrator was fitted, and the linker's from now on.
    """
    made_from = artifact.check(path, "linker", VERSION, beside=BESIDE).made_from
    stored = dataclasses.asdict(settings)
    record = {
        "settings": stored,
        "calibration": {
            "calibrator": calibrator.to_json(),
            "parts": identify_parts(made_from),
            "settings": stored,
        },
        "tuned_on": {name: list(hashes) for name, hashes in tuned_on.items()},
    }
    text = json.dumps(record, indent=1) + "\n"
    artifact.replace_file(path, "linker", VERSION, FILE, text, BESIDE)


def write_settings(path: str | os.PathLike[str], changes: Mapping[str, Any]) -> None:
    """Change settings that a linker directory keeps; the rest of linker.json stays.

    A CalibrationWarning says where a calibrator does not hold with them. Raises
    ValueError for a bad setting, ArtifactError for a part that is missing.
    """
    path = Path(path)
    made_from = artifact.check(path, "linker", VERSION, beside=BESIDE).made_from
    settings = read_settings(path, **changes)
    if settings.system == "insgenel-r":
        check_retrieval(path)
    settle(read_calibration(path, made_from), settings, changes)
    record = artifact.read_json(path / FILE, "settings")
    record |= {"settings": dataclasses.asdict(settings)}
    text = json.dumps(record, indent=1) + "\n"
    artifact.replace_file(path, "linker", VERSION, FILE, text, BESIDE)
