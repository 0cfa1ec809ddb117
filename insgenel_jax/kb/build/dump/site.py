"""The header of a dump in; the wiki's namespaces, and which names are articles, out.

A dump's `siteinfo` names the namespaces. It has no words for redirects and no names of
disambiguation templates: dumps since 2012 mark redirects, and `page_props` marks
disambiguation pages, so the words below matter for older or lone dumps alone.
"""

from __future__ import annotations

import dataclasses
import functools
from xml.etree import ElementTree

import regex

from insgenel_jax.kb.build.article_titles import PREFIXES
from insgenel_jax.kb.folding import capitalise, title_key

FILE, CATEGORY = 6, 14  # numbers of namespaces, the same in every wiki

# Names that MediaWiki knows in every language, and two aliases of most wikis.
_EVERYWHERE = {
    "media": -2, "special": -1, "talk": 1, "user": 2, "user talk": 3, "project": 4,
    "project talk": 5, "file": 6, "image": 6, "file talk": 7, "image talk": 7,
    "mediawiki": 8, "mediawiki talk": 9, "template": 10, "template talk": 11,
    "help": 12, "help talk": 13, "category": 14, "category talk": 15,
    "wikipedia": 4, "wp": 4, "portal": 100, "book": 108, "draft": 118,
    "timedtext": 710, "module": 828,
}  # fmt: skip
_REDIRECT_WORDS = """
    redirect weiterleitung redirection redirección redireccion rinvia rinvio
    redirecionamento doorverwijzing patrz przekieruj tam omdirigering ohjaus
    uudelleenohjaus перенаправление перенапр перенаправлення yönlendirme
    yönlendir přesměruj átirányítás pārvirzīt pāradresācija peradresavimas suuna
    redirecteaza تحويل تغییرمسیر הפניה 転送 リダイレクト 重定向 넘겨주기 đổi
"""
_DISAMBIGUATION = """
    disambig disambiguation dab hndis geodis schooldis mathdab roaddis shipindex
    begriffsklärung homonymie desambiguación desambiguacion disambigua desambiguação
    desambig doorverwijspagina dp ujednoznacznienie неоднозначность неоднозначність
    förgrening täsmennyssivu flertydig peker anlamayrımı rozcestník egyért
    nuozeimeibys nūzeimeibys nozīmju_atdalīšana nuorodinis 曖昧さ回避 消歧义
    消歧義 동음이의 توضيح ابهام_زدایی פירושונים định_hướng dezambiguizare
"""
# Languages whose letters have no case write other letters, or none, after a link.
_LETTERS = regex.compile(r"[\p{L}\p{M}]+")
_LOWER = regex.compile(r"\p{Ll}+")
_TRAILS = dict.fromkeys(("ar", "arz", "fa", "ckb", "he", "hi", "mr", "bn"), _LETTERS)
_TRAILS |= dict.fromkeys(("zh", "yue", "wuu"), regex.compile("(?!)"))
_LANGUAGE = regex.compile(r"[a-z]{2,3}(?:-[a-z]+)*|simple")
_PARENTHESIS = regex.compile(r"\(([^()]*)\)$")


@dataclasses.dataclass(frozen=True)
class Words:
    """What a user adds to the words of redirects, templates and namespaces."""

    redirects: tuple[str, ...] = ()
    disambiguation: tuple[str, ...] = ()  # names of templates
    namespaces: tuple[str, ...] = ()  # further names of namespaces without articles


NO_WORDS = Words()


@dataclasses.dataclass(frozen=True, eq=False)  # hashed for every link: by identity
class Site:
    """A wiki: what its names mean."""

    name: str
    language: str
    first_letter: bool  # whether the case of a title's first letter means nothing
    namespaces: tuple[tuple[str, int], ...]  # folded name, number
    marks_redirects: bool  # whether the XML says which pages are redirects
    words: Words

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Folded name of a namespace -> its number."""
        added = {_fold(name): -3 for name in self.words.namespaces}
        return _EVERYWHERE | dict(self.namespaces) | added

    @functools.cached_property
    def redirect_words(self) -> frozenset[str]:
        """Folded words that begin a redirect, without #."""
        return frozenset(map(_fold, [*_REDIRECT_WORDS.split(), *self.words.redirects]))

    @functools.cached_property
    def disambiguation(self) -> frozenset[str]:
        """Folded names of disambiguation templates."""
        own = self.words.disambiguation
        return frozenset(map(_fold, [*_DISAMBIGUATION.split(), *own]))

    @property
    def trail(self) -> regex.Pattern:
        """What may follow a link and belongs to its anchor."""
        return _TRAILS.get(self.language, _LOWER)

    def names_of(self, *numbers: int) -> list[str]:
        """The folded names of namespaces."""
        return [name for name, number in self.numbers.items() if number in numbers]

    def article(self, name: str) -> str:
        """The title of an article in its one spelling.

        Empty for a page of another namespace or wiki, and for one whose title says that
        it is a disambiguation page.
        """
        title = " ".join(title_key(name).removeprefix(":").split())
        prefix, colon, _ = title.partition(":")
        if colon and (self._is_namespace(prefix) or is_other_wiki(prefix)):
            return ""
        kind = _PARENTHESIS.search(title)
        if kind and _fold(kind[1]) in self.disambiguation:
            return ""
        return capitalise(title) if self.first_letter else title

    def namespace(self, title: str) -> int:
        """The number of the namespace of a page's title, 0 for articles."""
        prefix, colon, _ = title.partition(":")
        return self.numbers.get(_fold(prefix), 0) if colon else 0

    def is_disambiguation(self, template: str) -> bool:
        """Whether a template is put on disambiguation pages."""
        name = _fold(template)
        if "needed" in name or "link" in name:  # these stand beside a link
            return False
        return (
            name in self.disambiguation
            or name.startswith("disambig")
            or name.endswith(("disambig", "disambiguation"))
        )

    def _is_namespace(self, prefix: str) -> bool:
        return self.numbers.get(_fold(prefix), 0) != 0


def is_other_wiki(prefix: str) -> bool:
    """Whether the part of a link before its colon is that of another wiki."""
    prefix = prefix.strip()
    return prefix in PREFIXES or is_language(prefix)


def is_language(prefix: str) -> bool:
    """Whether it is the code of a language, whose links appear beside a page."""
    return _LANGUAGE.fullmatch(prefix.strip()) is not None


def read_site(header: bytes, words: Words) -> Site:
    """The wiki of a dump, from what stands before its first page.

    A header without `siteinfo`, or a damaged one, is that of an English Wikipedia.
    """
    text = header.decode("utf-8", "replace")
    begin, end = text.find("<siteinfo>"), text.find("</siteinfo>")
    info = ElementTree.Element("siteinfo")
    if 0 <= begin < end:
        try:
            info = ElementTree.fromstring(text[begin : end + len("</siteinfo>")])
        except ElementTree.ParseError:
            pass
    spaces = []
    for space in info.iter("namespace"):
        key, name = space.get("key", ""), space.text or ""
        if regex.fullmatch("-?[0-9]{1,6}", key) and name.strip():
            spaces.append((_fold(name), int(key)))
    version = regex.search(r"<mediawiki[^>]*\sversion=\"0\.([0-9]+)\"", text)
    base = regex.match(r"https?://([a-z-]+)\.", info.findtext("base") or "")
    database = regex.match(r"([a-z_]+?)wiki", info.findtext("dbname") or "")
    language = (database or base or ["", "en"])[1].replace("_", "-")
    return Site(
        info.findtext("sitename") or "Wikipedia",
        language,
        (info.findtext("case") or "first-letter") == "first-letter",
        tuple(spaces),
        version is not None and int(version[1]) >= 4,
        words,
    )


def _fold(name: str) -> str:
    return " ".join(title_key(name).split()).casefold()
