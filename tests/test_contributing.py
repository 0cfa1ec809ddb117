"""CONTRIBUTING.md against the files: its layout has every module, and no other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "insgenel_jax"
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SECTION = re.compile(r"^### .*?`(?:insgenel_jax/)?(?P<folder>\w+/)?`.*?$", re.MULTILINE)
MODULE = re.compile(r"`([\w/]+\.py)`")


def layout() -> set[str]:
    """The modules in the first columns of the tables under "Layout"."""
    listed = set()
    begin, end = TEXT.index("## Layout"), TEXT.index("### Outside of the package")
    sections = list(SECTION.finditer(TEXT, begin, end))
    ends = [section.start() for section in sections[1:]] + [end]
    for section, stop in zip(sections, ends, strict=True):
        for row in TEXT[section.end() : stop].splitlines():
            if row.startswith("| `"):
                names = MODULE.findall(row.split("|")[1])
                listed |= {(section["folder"] or "") + name for name in names}
    return listed


def test_layout_lists_every_module():
    paths = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    modules = {str(p) for p in paths if p.name != "__init__.py" or len(p.parts) == 1}
    assert sorted(modules - layout()) == []
    assert sorted(layout() - modules) == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_paths_exist(document):
    """Paths in backticks, outside of the layout's tables, start at one of two roots."""
    lines = (ROOT / document).read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("| `"))
    named = re.findall(r"`([\w./]+/[\w.]+\.(?:py|sh|yml|md))`", text)
    assert named
    named = [path for path in named if "NAME" not in path]  # a file to be written
    missing = [p for p in named if not any((r / p).exists() for r in (ROOT, PACKAGE))]
    assert missing == []
