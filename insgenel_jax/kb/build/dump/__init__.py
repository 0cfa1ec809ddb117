"""MediaWiki's export XML in; files of parsed pages, which the passes of
kb/build/wikipedia.py read, with redirects and disambiguation pages out.

`parts.parse_dump` does it all: `pieces` cuts a dump, `export` finds its pages,
`wikitext` and `lead` make text and links of them, `site` knows the wiki's own words.
"""
