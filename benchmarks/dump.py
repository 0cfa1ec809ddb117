"""A Wikipedia dump: wikitext scanned and parsed a second, processes, memory.

    python benchmarks/dump.py [--dumps FOLDER] [--pages 200000] [--few 20000]
        [--json OUT]

Two things. Real pages (--dumps, a folder of .xml.bz2): megabytes of wikitext a second
of processor time, by the scanner alone and by the whole parser; medians of 7, the two
in turns. And a generated dump of --pages pages, parsed to part files: one process, then
two, wall and processor time; and the peak memory of the process that does most, beside
that of --few pages.
"""

import bz2
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import rich
import rich.table
import typer

from insgenel_jax.kb.build.dump import export, parts, wikitext
from insgenel_jax.kb.build.dump.site import Words, read_site

RUNS = 7
SEED = 0
HEADER = '<mediawiki version="0.11"><siteinfo><dbname>enwiki</dbname></siteinfo>\n'

# Memory once used is not given back, so each run is a process of its own.
FRESH = """
import json, resource, sys, time
from pathlib import Path
from insgenel_jax.kb.build.dump.parts import parse_dump
from insgenel_jax.text.formats.rejects import Rejects
if __name__ == "__main__":
    file, folder, workers = sys.argv[1:]
    begin, most = time.perf_counter(), 0
    def tell(part):
        global most
        most = max(most, part.memory)
    where = [Path(file)], Path(folder), Rejects()
    dump = parse_dump(*where, workers=int(workers), tell=tell)
    seconds = time.perf_counter() - begin
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    used = [resource.getrusage(kind) for kind in kinds]
    print(json.dumps({
        "seconds": seconds,
        "processor seconds": sum(u.ru_utime + u.ru_stime for u in used),
        "MB of the first process": used[0].ru_maxrss / 1000,
        "MB of the largest process": max(most / 1e6, used[0].ru_maxrss / 1000),
        "pages": dump.counts["pages"],
    }))
"""


def main(
    dumps: Annotated[Path | None, typer.Option(help="Folder of .xml.bz2.")] = None,
    pages: Annotated[int, typer.Option(min=1, help="Generated pages.")] = 200_000,
    few: Annotated[int, typer.Option(min=1, help="Fewer, for the memory.")] = 20_000,
    runs: Annotated[int, typer.Option(min=1, help="Of real pages.")] = RUNS,
    json_out: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    results: dict = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "mwparserfromhell": version("mwparserfromhell"),
        "seed": SEED,
    }
    if dumps is not None:
        results |= time_real_pages(dumps, runs)
    results |= time_generated_pages(pages, few)
    table = rich.table.Table("what", rich.table.Column("figure", justify="right"))
    for name, figure in results.items():
        shown = f"{figure:,.2f}" if isinstance(figure, float) else str(figure)
        table.add_row(name, shown)
    rich.print(table)
    if json_out:
        json_out.write_text(json.dumps(results, indent=1) + "\n")


def time_real_pages(folder: Path, runs: int) -> dict[str, float | int]:
    """Megabytes of wikitext (UTF-8) a second of processor time."""
    work = []
    for file in sorted(folder.glob("*.xml.bz2")):
        xml = bz2.decompress(file.read_bytes())
        site = read_site(xml.partition(export.OPEN)[0], Words())
        found = [p for p in export.cut_pages([xml]) if isinstance(p, bytes)]
        work += [(page, site) for page in map(export.parse_page, found)]
    size = sum(len(page.text.encode()) for page, _ in work) / 1e6
    times: dict[str, list[float]] = {"scanned": [], "parsed": []}
    for _ in range(runs):
        for name, read in (("scanned", scan), ("parsed", parts.parse_text)):
            begin = time.process_time()
            for page, site in work:
                for _ in read(page, site):
                    pass
            times[name].append(time.process_time() - begin)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    return {
        "real pages": len(work),
        "MB of wikitext": size,
        "MB scanned a second": size / medians["scanned"],
        "MB parsed a second": size / medians["parsed"],
    }


def scan(page: export.RawPage, site):
    return wikitext.scan(page.text, site)


def time_generated_pages(pages: int, few: int) -> dict[str, float | int]:
    results: dict[str, float | int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        size = generate(root / "many.xml", pages)
        generate(root / "few.xml", few)
        one = parse(root / "many.xml", root / "one", 1)
        two = parse(root / "many.xml", root / "two", 2)
        less = parse(root / "few.xml", root / "less", 1)
        less_by_two = parse(root / "few.xml", root / "less by two", 2)
    memory, own = "MB of the largest process", "MB of the first process"
    results["generated pages"], results["MB of XML"] = pages, size / 1e6
    for name, run in (("one process", one), ("two processes", two)):
        results[f"{name}: seconds"] = run["seconds"]
        results[f"{name}: processor seconds"] = run["processor seconds"]
        results[f"{name}: pages a second"] = run["pages"] / run["seconds"]
        results[f"{name}: {memory}"] = run[memory]
    results["two processes: times as fast as one"] = one["seconds"] / two["seconds"]
    results[f"{few} pages, one process: {memory}"] = less[memory]
    results["one process: memory beside that of few pages"] = one[memory] / less[memory]
    results["two processes: memory beside that of few pages"] = (
        two[memory] / less_by_two[memory]
    )
    results["first of two processes: memory beside that of few pages"] = (
        two[own] / less_by_two[own]
    )
    return results


def parse(file: Path, folder: Path, workers: int) -> dict:
    """Parse a dump in a fresh process, as a file: its own processes import it."""
    script = folder.with_suffix(".py")
    script.write_text(FRESH)
    command = [sys.executable, str(script), str(file), str(folder), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def generate(file: Path, pages: int) -> int:
    """Write a dump of pages of about 2,000 characters with what real ones have; a tenth
    of them are redirects. Returns its bytes."""
    rng = random.Random(SEED)
    letters = "abcdefghijklmnop"
    words = ["".join(rng.choices(letters, k=2 + i % 9)) for i in range(5000)]
    with file.open("w", encoding="utf-8") as stream:
        stream.write(HEADER)
        for number in range(pages):
            if number % 10 == 9:
                target = f"Page {rng.randrange(pages)}"
                mark = f'<redirect title="{target}" />'
                text = f"#REDIRECT [[{target}]]"
            else:
                mark, text = "", make_text(rng, words, pages)
            stream.write(
                f"<page><title>Page {number}</title><ns>0</ns><id>{number + 1}</id>"
                f"{mark}<revision><text>{text}</text></revision></page>\n"
            )
        stream.write("</mediawiki>")
    return file.stat().st_size


def make_text(rng: random.Random, words: list[str], pages: int) -> str:
    def sentence() -> str:
        chosen = rng.choices(words, k=14)
        chosen[3] = f"[[Page {rng.randrange(pages)}|{chosen[3]}]]s"
        chosen[8] = f"''{chosen[8]}''"
        return " ".join(chosen) + "."

    paragraph = " ".join(sentence() for _ in range(3))
    reference = f"&lt;ref&gt;{{{{cite|{sentence()}}}}}&lt;/ref&gt;"
    return (
        f"{{{{Infobox x\n| a = {sentence()}\n| b = {{{{c|{words[0]}}}}}\n}}}}\n"
        f"'''{words[1]}''' {paragraph}{reference}\n\n"
        f"== {words[2]} ==\n{paragraph}\n* {sentence()}\n* {sentence()}\n"
        f"{{|\n! {words[3]} !! {words[4]}\n|-\n| {sentence()} || {words[5]}\n|}}\n"
        f"{paragraph}\n[[Category:{words[6]}]]"
    )


if __name__ == "__main__":
    typer.run(main)
