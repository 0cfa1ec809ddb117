"""Links of wikitext by a stack of brackets, character by character: an oracle for the
regular expressions of kb/build/dump/wikitext.py."""

import html
import re
from urllib.parse import unquote

HIDDEN = [
    "ref", "references", "math", "chem", "ce", "gallery", "timeline",
    "syntaxhighlight", "source", "score", "imagemap", "hiero", "templatedata",
    "graph", "mapframe", "maplink", "inputbox", "categorytree", "templatestyles",
    "includeonly", "section", "nowiki", "pre",
]  # fmt: skip
OTHER_WIKIS = [
    "simple", "wikt", "wiktionary", "wikisource", "wikiquote", "wikibooks",
    "wikinews", "wikiversity", "s", "q", "b", "n", "v", "m", "c", "d", "w", "meta",
    "commons", "species", "wikispecies", "bugzilla", "http", "https", "doi",
    "zh-min-nan", "be-x-old", "roa-rup", "zh-yue", "map-bms", "fiu-vro", "bat-smg",
    "zh-classical", "cbk-zam", "nds-nl",
]  # fmt: skip
TAG = re.compile(r"<([a-zA-Z]+)\b[^<>]*>")


def blank(text):
    """A text with spaces for comments and elements whose content is not read."""
    out, i = [], 0
    while i < len(text):
        if text.startswith("<!--", i):
            end = text.find("-->", i)
            end = len(text) if end < 0 else end + 3
        else:
            tag = TAG.match(text, i) if text[i] == "<" else None
            end = i
            if tag and tag[1].lower() in HIDDEN:
                end = tag.end()
                if not tag[0].endswith("/>"):
                    closing = re.compile(f"</{tag[1]}\\s*>", re.IGNORECASE)
                    closed = closing.search(text, end)
                    end = closed.end() if closed else end
        out.append(text[i] if end == i else "")
        i = max(end, i + 1)
    return "".join(out)


def links(text):
    """(target, anchor or None, trail) of each link that stands in no template and no
    other link, in order."""
    text = blank(text) + "\n"
    stack, found, i = [], [], 0  # of [kind, start, closed]
    while i < len(text) - 1:
        pair = text[i : i + 2]
        if pair in ("{{", "[["):
            # of three brackets the last two open
            if text[i + 2 : i + 3] == pair[0] and text[i + 3 : i + 4] != pair[0]:
                i += 1
            stack.append([pair, i, False])
            i += 2
        elif pair in ("}}", "]]"):
            opening = {"}}": "{{", "]]": "[["}[pair]
            places = [n for n, item in enumerate(stack) if item[0] == opening]
            if places:
                item = stack[places[-1]]
                item[2] = True
                if opening == "[[":
                    found.append((item, i, list(stack[: places[-1]])))
                    del stack[places[-1]]
                else:
                    del stack[places[-1] :]
            i += 2
        else:
            i += 1
    shown = []
    for item, end, around in sorted(found, key=lambda entry: entry[0][1]):
        if not any(outer[2] for outer in around):
            target, bar, anchor = text[item[1] + 2 : end].partition("|")
            trail = re.match(r"[^\W\d_]*", text[end + 2 :])[0]
            trail = trail[
                : next((n for n, c in enumerate(trail) if not c.islower()), 99)
            ]
            begin = text.rfind("\n", 0, item[1]) + 1
            line = text[begin : text.find("\n", begin)]
            shown.append((target, anchor if bar else None, trail, line))
    return shown


def title(target, namespaces):
    """The title of the article that a target means; "" for anything else."""
    name = html.unescape(target.split("#")[0])
    if "%" in name:
        name = unquote(name)
    name = " ".join(name.replace("_", " ").split()).removeprefix(":").strip()
    prefix, colon, _ = name.partition(":")
    if colon and prefix.strip().casefold() in namespaces:
        return ""
    prefix = prefix.strip()
    if colon and (prefix in OTHER_WIKIS or re.fullmatch(r"[a-z]{2,3}", prefix)):
        return ""
    first = name[:1].upper()  # that of "ß" is two letters
    return first + name[1:] if len(first) == 1 else name
