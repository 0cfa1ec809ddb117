"""What tuning leaves in a linker: scores, and where its calibrator does not hold."""

import dataclasses
import json
import math
import shutil
import warnings

import pytest

from insgenel_jax import artifact, mini_world
from insgenel_jax.artifact import ArtifactError
from insgenel_jax.evaluation import tuning
from insgenel_jax.linker import Linker, titles
from insgenel_jax.linker.calibrator import Calibrator, Term
from insgenel_jax.linker.features import NAMES, describe
from insgenel_jax.linker.settings import Settings, scoring_settings
from insgenel_jax.linker.tuned import (
    Calibration,
    CalibrationWarning,
    read_tuned_on,
    write_tuned,
)
from insgenel_jax.text.document import Document

TERMS = {"prior": Term(-1.0, 2.0, 1.5, 0.5), "linked": Term(0.5, 0.5, 0.7, 0.0)}
CALIBRATOR = Calibrator(TERMS, -0.3)
TUNED_ON = {"news": ["0123456789ab"]}
TUNED = {"system": "insgenel", "prior_weight": 1.0, "threshold": 0.45}


@pytest.fixture(scope="module")
def tuned_path(linker_path, tmp_path_factory):
    path = tmp_path_factory.mktemp("tuned") / "linker"
    shutil.copytree(linker_path, path)
    write_tuned(path, Settings(**TUNED), CALIBRATOR, TUNED_ON)
    return path


@pytest.fixture(scope="module")
def tuned(tuned_path):
    return Linker.from_pretrained(tuned_path)


def test_it_is_a_whole_linker(tuned_path, linker_path):
    """Its manifest holds, the other parts are as they were, and what it was tuned on is
    known."""
    manifest = artifact.check(tuned_path, "linker", 1, verify=True)
    before = artifact.read(linker_path)
    assert manifest.made_from == before.made_from
    changed = {n for n, f in manifest.files.items() if before.files[n] != f}
    assert changed == {"linker.json"} and manifest.files.keys() == before.files.keys()
    assert read_tuned_on(tuned_path) == TUNED_ON and read_tuned_on(linker_path) == {}
    assert [path.name for path in tuned_path.parent.iterdir()] == ["linker"]


def test_the_tree_of_titles_and_other_files_stay(linker_path, tmp_path, monkeypatch):
    path = tmp_path / "linker"
    shutil.copytree(linker_path, path)
    Linker.from_pretrained(path, system="insgenel", titles="all")
    (path / "README.md").write_text("notes")
    assert (path / "titles").is_dir()
    write_tuned(path, Settings(**TUNED), CALIBRATOR, TUNED_ON)
    assert (path / "README.md").read_text() == "notes"
    monkeypatch.setattr(titles, "make_titles", None)  # it is not made again
    assert Linker.from_pretrained(path, titles="all").titles is not None


def test_scores_are_the_calibrators(tuned):
    assert tuned.settings == Settings(**TUNED) and tuned.calibrator == CALIBRATOR
    documents = mini_world.paragraphs("dev", 6)
    kept = 0
    for document, links, plain in zip(
        tuned(documents),
        tuned.score(documents),
        Linker.score(without_calibrator(tuned), documents),
        strict=True,
    ):
        numbers = describe(document.text, links)
        for link, row, bare in zip(links, numbers, plain, strict=True):
            prior, linked = (row[NAMES.index(name)] for name in TERMS)
            log_odds = -0.3 + 1.5 * (prior + 1) / 2 + 0.7 * (linked - 0.5) / 0.5
            expected = 1 / (1 + math.exp(-log_odds))
            assert link.mention.score == pytest.approx(expected)
            assert sum(link.features[:3]) == pytest.approx(math.log(bare.mention.score))
        expected = [x.mention for x in links if x.linked and x.mention.score >= 0.45]
        assert list(document.mentions) == expected
        kept += len(expected)
    assert 0 < kept < sum(map(len, tuned.score(documents)))


@pytest.mark.parametrize("how", ["new", "override"])
def test_a_name_below_the_threshold_lends_its_parts(linker_path, how):
    """As in tuning, which chooses the threshold on links explained without one."""
    opened = Linker.from_pretrained(
        linker_path, system="insgenel", name_parts=how, **tuning.LOOKUP
    )
    short_ones = Calibrator({"log_words": Term(0.0, 1.0, -5.0, 0.0)}, 2.0)
    document = Document("1", "Michael Jordan and Leonhard Euler. Jordan saw Leonhard.")
    links = short_ones.score(document.text, opened.score(document))
    expected = [link.mention for link in links if link.mention.score >= 0.5]
    found = [(document.text[m.start : m.end], m.entity) for m in expected]
    assert found == [("Jordan", "Michael Jordan"), ("Leonhard", "Leonhard Euler")]
    settings = dataclasses.replace(opened.settings, threshold=0.5)
    calibration = Calibration(short_ones, "parts", settings)
    linker = Linker(
        opened.generator, opened.kb, None, None, settings, None, calibration
    )
    assert list(linker(document).mentions) == expected
    explained = [x.mention for x in linker.score(document)]
    assert [m for m in explained if m.score >= 0.5] == expected
    assert len(explained) == len(expected) + 2


def without_calibrator(linker):
    parts = (linker.generator, linker.kb, linker.retriever, linker.index)
    return Linker(*parts, linker.settings)


def test_unlinked_ones_count_where_they_are_considered(tuned):
    documents = mini_world.paragraphs("dev", 6)
    considering = tuned.with_settings(consider_unlinked=True)
    assert considering.calibrator == CALIBRATOR
    for document, links in zip(
        considering(documents), tuned.score(documents), strict=True
    ):
        expected = [x.mention for x in links if x.mention.score >= 0.45]
        assert list(document.mentions) == expected


SPEED = {"batch": 3, "decoder": "speculative", "dtype": "bfloat16", "top_k": 7}


def test_settings_that_change_no_feature(tuned, tuned_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("batch", "decoder"):
            other = tuned.with_settings(**{name: SPEED[name]})
            assert other.calibrator == CALIBRATOR and other.settings.threshold == 0.45
        assert Linker.from_pretrained(tuned_path, threshold=0.9).calibrator
    base = scoring_settings(Settings(**TUNED))
    assert scoring_settings(Settings(**TUNED | SPEED)) == base  # top_k: no retriever
    beams = Settings(**TUNED | {"decoder": "beam"})
    assert scoring_settings(beams) != base
    assert scoring_settings(beams) != scoring_settings(
        Settings(**TUNED | {"decoder": "beam", "beams": 3})
    )


def test_other_settings_set_it_aside(tuned, tuned_path):
    """Scores are uncalibrated then, and the threshold, which means others, is gone."""
    message = r"not hold with prior_weight = 0.0 \(fitted with 1.0\).*threshold = 0.45"
    with pytest.warns(CalibrationWarning, match=message):
        opened = Linker.from_pretrained(tuned_path, prior_weight=0.0)
    with pytest.warns(CalibrationWarning, match=message):
        changed = tuned.with_settings(prior_weight=0.0)
    for linker in (opened, changed):
        assert linker.calibrator is None and linker.settings.threshold == 0.0
    with pytest.warns(CalibrationWarning, match="uncalibrated. Tune"):
        named = Linker.from_pretrained(tuned_path, prior_weight=0.0, threshold=0.2)
    assert named.settings.threshold == 0.2 and named.calibrator is None
    # and back
    assert changed.with_settings(prior_weight=1.0).calibrator == CALIBRATOR
    with pytest.warns(CalibrationWarning, match="system = 'insgenel-r'"):
        Linker.from_pretrained(tuned_path, system="insgenel-r")


def test_without_it_on_request(tuned_path):
    linker = Linker.from_pretrained(tuned_path, calibrated=False, prior_weight=0.0)
    assert linker.calibration is None and linker.settings.threshold == 0.0
    linker = Linker.from_pretrained(tuned_path, calibrated=False, threshold=0.3)
    assert linker.settings.threshold == 0.3


def change(path, **changes):
    """Alter linker.json, as a user might, manifest included."""
    record = json.loads((path / "linker.json").read_text())
    for name, value in changes.items():
        record[name] = value(record[name])
    text = json.dumps(record)
    artifact.replace_file(path, "linker", 1, "linker.json", text)


DAMAGE = {
    "other parts": (
        {"calibration": lambda c: c | {"parts": "0" * 64}},
        "linker.json: calibration: .* on this linker's parts .* of others",
    ),
    "no calibrator": (
        {"calibration": lambda c: {"parts": "a"}},
        "linker.json: calibration: 'calibrator'; take it out",
    ),
    "an unknown number": (
        {"calibration": lambda c: c | {"calibrator": {"terms": {"a": {}}}}},
        "linker.json: calibration: expected an intercept and terms",
    ),
    "unknown settings": (
        {"calibration": lambda c: c | {"settings": {"topk": 1}}},
        "linker.json: calibration: .*unknown settings",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_one_that_cannot_be_used_is_refused(tuned_path, tmp_path, case):
    changes, message = DAMAGE[case]
    shutil.copytree(tuned_path, tmp_path / "linker")
    change(tmp_path / "linker", **changes)
    with pytest.raises(ArtifactError, match=message):
        Linker.from_pretrained(tmp_path / "linker")


def test_damaged_tuned_on(tuned_path, tmp_path):
    shutil.copytree(tuned_path, tmp_path / "linker")
    change(tmp_path / "linker", tuned_on=lambda on: {"news": 3})
    with pytest.raises(ArtifactError, match="linker.json: tuned_on: expected lists"):
        read_tuned_on(tmp_path / "linker")


def test_changed_settings_in_the_file_set_it_aside(tuned_path, tmp_path):
    shutil.copytree(tuned_path, tmp_path / "linker")
    change(tmp_path / "linker", settings=lambda s: s | {"link_weight": 1.0})
    with pytest.warns(CalibrationWarning, match="link_weight = 1.0"):
        assert Linker.from_pretrained(tmp_path / "linker").calibrator is None
