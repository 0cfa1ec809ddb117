"""The name of a Wikipedia page, or the target of a link, in; an article's title out."""

from __future__ import annotations

from insgenel_jax.kb.folding import capitalise, title_key

_NAMESPACE_NAMES = """
    book category draft file help image media mediawiki module portal project special
    talk template timedtext user wikipedia wp
"""
# Prefixes of links to other sites, other wikis and the most common language editions.
# A prefix is recognised only where it is written in lower case. Titles begin with a
# capital letter, so a title such as "Q: ..." is not taken for a link to another wiki.
_PREFIX_NAMES = """
    http https ftp mailto news irc mail
    doi hdl arxiv isbn iarchive google phab gutenberg imdbname bugzilla
    wikt wiktionary w wikisource s wikiquote q b wikibooks n wikinews v wikiversity
    voy wikivoyage wikispecies species c commons d m meta mw
    ar bg bn ca cs cy da de el en eo es et eu fa fi fr ga gl he hi hr hu hy id is it
    ja ka kk ko la lt lv mk ms nl nn no pl pt ro ru simple sk sl sq sr sv ta th tr uk
    ur uz vi zh
"""
_NAMESPACES = frozenset(_NAMESPACE_NAMES.split())
PREFIXES = frozenset(_PREFIX_NAMES.split())


def article_title(name: str) -> str:
    """The title of an article in its one spelling.

    Empty for a page of another namespace or wiki and for a disambiguation page.
    """
    title = " ".join(title_key(name).removeprefix(":").split())
    prefix, colon, _ = title.partition(":")
    namespace = prefix.strip().lower().removesuffix(" talk")
    if colon and (namespace in _NAMESPACES or prefix.strip() in PREFIXES):
        return ""
    if title.endswith("(disambiguation)"):
        return ""
    return capitalise(title)
