"""The documentation: its site builds without a warning, and its code blocks run."""

from __future__ import annotations

import bz2
import gzip
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from insgenel_jax.cli import linker_settings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(page.name for page in DOCS.glob("*.md"))
# Pages whose blocks in bash and python run as they stand, in order, in one folder, and
# a word of what they print.
RUN = {
    "install.md": "Warsaw",
    "first_link.md": "Warsaw",
    "serve.md": "Warsaw",
    "evaluate.md": "report: report.html",
    "million_documents.md": "2 documents",
    "own_entities.md": "entities",
    "knowledge_base.md": "redirect pages",
}
# What a command that is not run begins with, and why it is not.
NOT_RUN = {
    "pip install": "installs",
    "python3 -m venv": "installs",
    "source ": "an environment that is not there",
    "docker ": "needs Docker",
    "kubectl ": "needs Kubernetes",
    "srun ": "needs Slurm; tests/jobs/test_command.py has its variables",
    "insgenel serve": "never ends; the page's next block starts it and asks it",
    "insgenel link --linker /shared/": "needs a bucket; tests/jobs/ has Ray",
    "insgenel train --config configs/generator_llama.py:7b": "needs 13 GB of weights",
    "insgenel train ... --coordinator": "needs hosts; tests/test_processes.py has two",
    "insgenel train --compile-only": "minutes; tests/ahead/ has smaller ones",
    "insgenel link --compile-only": "minutes; tests/ahead/ has smaller ones",
    "insgenel index --compile-only": "minutes; tests/ahead/ has smaller ones",
    "insgenel finetune --linker nano": "minutes; tests/test_finetune.py has less",
    "python benchmarks/": "an hour and 6 GB",
    "insgenel study": "hours, on sets of the data folder",
    "insgenel ask --linker nano --input first-10-of-kore50": "needs a large model",
    "insgenel evaluate --kb insgenel_jax/assets/nano/kb": "reads what `ask` wrote",
}
COMMAND = re.compile(
    r"^ {4}(insgenel|python|pip|srun|docker|kubectl|bash) ", re.MULTILINE
)


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((DOCS / page).read_text())


@pytest.mark.parametrize("page", PAGES)
def test_no_command_escapes_the_test(page):
    """Commands are in blocks of bash, which run; exceptions are few and named."""
    assert not COMMAND.search((DOCS / page).read_text()), "a command in no block"
    for language, code in blocks(page):
        assert language in ("bash", "python", "console", "text"), language
        assert page in RUN or language in ("console", "text"), language
        if language == "console":
            for line in code.replace("\\\n", "").splitlines():
                assert line.startswith(tuple(NOT_RUN)), line


def environment(folder: Path) -> dict[str, str]:
    """With the commands `insgenel` and `python` of this checkout."""
    commands = folder / "bin"
    commands.mkdir()
    for name, call in (("insgenel", "-m insgenel_jax "), ("python", "")):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call}"$@"\n')
        script.chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_every_setting_has_its_line():
    defaults, meanings = linker_settings()
    rows = [
        f"| `{n}` | `{default}` | {meanings[n]} |" for n, default in defaults.items()
    ]
    page = (DOCS / "settings.md").read_text().replace("\\|", "|")
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


WORDS = "met so many words that this line is long enough for a training document."
DUMP = f"""<mediawiki version="0.11">
<page><title>Ada</title><ns>0</ns><id>1</id><revision>
<text>Ada and [[Bo|the dog]] {WORDS}</text></revision></page>
<page><title>Bo</title><ns>0</ns><id>2</id><revision>
<text>Bo is a dog. [[Ada]] and [[Bee]] {WORDS}</text></revision></page>
<page><title>Bee</title><ns>0</ns><id>3</id><redirect title="Bo" /><revision>
<text>#REDIRECT [[Bo]]</text></revision></page>
</mediawiki>"""


def write_what_is_taken_for_granted(page: str, folder: Path, linker: Path) -> None:
    """The files that a page's commands read and do not make.

    linker: one whose parts lie beside it.
    """
    if page == "million_documents.md":
        shutil.copytree(ROOT / "insgenel_jax/assets/nano", folder / "work/linker")
        (folder / "articles").mkdir()
        texts = "Marie Curie was born in Warsaw.\n\nShe studied in Paris.\n"
        (folder / "articles/a.txt").write_text(texts)
    if page == "own_entities.md":
        for part, name in (("kb", "wiki/kb"), ("index", "wiki-index")):
            shutil.copytree(linker.parent / part, folder / name)
        for part in ("retriever", "generator"):
            shutil.copytree(linker.parent / part, folder / part)
        (folder / "unwanted.txt").write_text("Mercury (planet)\n")
    if page == "knowledge_base.md":
        name = "enwiki-latest-pages-articles-multistream.xml.bz2"
        for dump in (name, "old.xml.bz2", "wiki.xml.bz2"):
            (folder / dump).write_bytes(bz2.compress(DUMP.encode()))
        ids = b"INSERT INTO `page_props` VALUES (2,'wikibase_item','Q5',NULL);"
        props = folder / "enwiki-latest-page_props.sql.gz"
        props.write_bytes(gzip.compress(ids))
        redirects = folder / "redirects.tsv.gz"
        redirects.write_bytes(gzip.compress(b"Bobby\tBo\n"))
        aliases = folder / "prob_yago_crosswikis_wikipedia_p_e_m.txt"
        aliases.write_text("the hound\t1.0\t2,1.0,Bo\n")
        (folder / "titles.txt").write_text("Ada\nMilk\n")


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_code_blocks_run(page, tmp_path, linker_path):
    if page == "serve.md" and shutil.which("curl") is None:
        pytest.skip("needs curl")
    write_what_is_taken_for_granted(page, tmp_path, linker_path)
    script = ["set -euo pipefail"]
    for number, (language, code) in enumerate(blocks(page)):
        if language == "bash":
            script.append(code.replace("8000", str(free_port())))
        elif language == "python":
            (tmp_path / f"block{number}.py").write_text(code)
            script.append(f"python block{number}.py")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment(tmp_path),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert RUN[page] in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "printed"),
    [
        ("given_mentions.py", "Marie Curie"),
        ("own_entities.py", "Heron desk lamp p3"),
        ("spacy_pipeline.py", "Warsaw"),
        ("batch_job.py", "40 documents in linked.jsonl, 1 rejected"),
    ],
)
def test_examples_run(example, printed, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / example, tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert printed in done.stdout


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    """Links and anchors are checked, and every object of the reference is found."""
    pytest.importorskip("zensical")
    config = (ROOT / "mkdocs.yml").read_text()
    for name, value in {
        "site_dir: work/site": "site_dir: site",
        "paths: [.]": f"paths: [{ROOT}]",
    }.items():
        assert name in config
        config = config.replace(name, value)
    (tmp_path / "mkdocs.yml").write_text(config)
    shutil.copytree(DOCS, tmp_path / "docs")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    assert "No issues found" in done.stderr + done.stdout
    reference = (tmp_path / "site" / "reference" / "index.html").read_text()
    assert "from_pretrained" in reference and "other_candidates" in reference
    for page in (tmp_path / "site").rglob("index.html"):
        assert not re.search(r'(src|href)="https?://[^"]*\.(js|css|woff2?)"',
                             page.read_text())  # fmt: skip


@pytest.mark.slow
def test_the_dockerfile_is_as_hadolint_wants_it():
    hadolint = shutil.which("hadolint") or shutil.which(
        "hadolint", path=str(Path(sys.executable).parent)
    )
    if hadolint is None:
        pytest.skip("needs hadolint")
    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], check=False, capture_output=True
    )
    assert done.returncode == 0 and not done.stdout, done.stdout


def test_manifests_of_the_service():
    """They name paths and options that there are, and give it time to drain."""
    options = (ROOT / "insgenel_jax" / "serve.py").read_text()
    paths = (ROOT / "insgenel_jax" / "serving" / "app.py").read_text()
    parts = yaml.safe_load_all((ROOT / "launch" / "gke_serve.yaml").read_text())
    pod = next(p for p in parts if p["kind"] == "Deployment")["spec"]["template"][
        "spec"
    ]
    (container,) = pod["containers"]
    for option in container["args"]:
        if option.startswith("--"):
            assert f"    {option.removeprefix('--')}: " in options
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'"{container[probe]["httpGet"]["path"]}"' in paths
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    seconds = int(container["args"][container["args"].index("--seconds") + 1])
    assert pod["terminationGracePeriodSeconds"] > before + seconds
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][
        "insgenel"
    ]
    assert compose["ports"] == ["127.0.0.1:8000:8000"]
    assert int(compose["stop_grace_period"].removesuffix("s")) > 30
