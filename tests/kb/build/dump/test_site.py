"""What the names of a wiki mean, by the header of its dump."""

import pytest

from insgenel_jax.kb.build.dump.site import Words, read_site

GERMAN = """<mediawiki version="0.11" xml:lang="de"><siteinfo>
<sitename>Wikipedia</sitename><dbname>dewiki</dbname>
<base>https://de.wikipedia.org/wiki/X</base><case>first-letter</case><namespaces>
<namespace key="0" case="first-letter" /><namespace key="6">Datei</namespace>
<namespace key="14">Kategorie</namespace><namespace key="bad">Neun</namespace>
<namespace key="3">Benutzer Diskussion</namespace></namespaces></siteinfo>"""


@pytest.fixture
def german():
    return read_site(GERMAN.encode(), Words(namespaces=("WP",)))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("apfel_baum", "Apfel baum"),
        (":Berlin", "Berlin"),
        ("Datei:X.jpg", ""),
        ("file:X.jpg", ""),
        ("benutzer_Diskussion:Ich", ""),
        ("wp:X", ""),
        ("en:Apple", ""),
        ("Re: Zero", "Re: Zero"),
        ("Bank (Begriffsklärung)", ""),
        ("Bank (Möbel)", "Bank (Möbel)"),
        ("ß", "ß"),
        ('A/B "C"\t😀', 'A/B "C" 😀'),
    ],
)
def test_articles(german, name, title):
    assert german.article(name) == title


def test_a_header_says_what_the_wiki_is(german):
    assert (german.name, german.language) == ("Wikipedia", "de")
    assert german.first_letter
    assert german.marks_redirects
    assert set(german.names_of(6)) == {"datei", "file", "image"}
    assert german.namespace("Kategorie:X") == 14
    assert german.is_disambiguation("begriffsklärung")


def test_the_case_of_the_first_letter_may_matter():
    header = GERMAN.replace("<case>first-letter", "<case>case-sensitive")
    assert read_site(header.encode(), Words()).article("apfel") == "apfel"


@pytest.mark.parametrize("header", ["", "<siteinfo><a></siteinfo>", "<mediawiki>"])
def test_without_a_header_it_is_english(header):
    site = read_site(header.encode(), Words(redirects=("GEH",), disambiguation=("Zz",)))
    assert site.language == "en"
    assert not site.marks_redirects
    assert site.article("Category:X") == ""
    assert {"geh", "redirect", "weiterleitung"} <= site.redirect_words
    assert site.is_disambiguation("zz")


def test_templates_of_disambiguation_pages():
    site = read_site(b"", Words())
    for name in ("disambig", "Disambiguation", "Place name disambiguation", "Dab"):
        assert site.is_disambiguation(name)
    for name in ("Disambiguation needed", "disambig link", "Infobox", ""):
        assert not site.is_disambiguation(name)


def test_what_belongs_to_a_link_depends_on_the_language():
    def trail(language, text):
        header = GERMAN.replace("dewiki", f"{language}wiki")
        match = read_site(header.encode(), Words()).trail.match(text)
        return match and match[0]

    assert trail("de", "größe1") == "größe"
    assert trail("ltg", "ā'") == "ā"
    assert trail("ar", "ات ") == "ات"
    assert trail("zh", "abc") is None
