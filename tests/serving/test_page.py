"""The page in a browser: paste, link, look, slide, switch, and text that would act.

Skipped where there is no Chromium with its driver, and no selenium.
"""

from __future__ import annotations

import contextlib
import shutil
import time

import pytest

pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver import ActionChains, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.knowledge_base import Entity
from insgenel_jax.linker import Linker
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.linkers import add_random_models
from tests.helpers.service import serving

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Chromium, chromedriver"),
]
EVIL = '<img src=x onerror="window.hacked=1">'
ENTITIES = [
    (Entity("Paris", "The capital of France, on the Seine.", "Q90", 9), ()),
    (Entity("Paris, Texas", "A city in Texas.", "Q830149", 2), ("Paris",)),
    (Entity("Java", EVIL, None, 4), ()),
    (Entity("<script>window.hacked=2</script>", "A title", None, 1), ("Mercury",)),
    (Entity("Python", "A snake.", "javascript:window.hacked=3", 1), ()),
]
TEXT = f"🎉 Paris is far from Java {EVIL}. Mercury saw Python in Paris, she said."


@pytest.fixture(scope="module")
def linker(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    with Rejects(root / "rejects.jsonl") as rejects:
        build_from_entities(root / "kb", ENTITIES, rejects)
    return Linker.from_pretrained(add_random_models(root), mention_bias=3.0, top_k=5)


@pytest.fixture(scope="module")
def running(linker):
    with serving(linker, seconds=300) as running:
        for system in ("insgenel-r", "insgenel"):  # compile
            running.link(text=TEXT, candidates=5, unlinked=True, system=system)
        yield running


@pytest.fixture(scope="module")
def browser():
    options = ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1000,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Page:
    def __init__(self, driver, url):
        self.driver = driver
        driver.get("about:blank")
        driver.get(url)
        self.until(lambda: self.js("return document.readyState") == "complete")
        self.until(lambda: "entities" in self.one("#about").text)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, holds, seconds=120):
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(Exception):
                if holds():
                    return
            assert time.monotonic() < end, "the page did not come to it"
            time.sleep(0.05)

    def link(self, text):
        box = self.one("#text")
        box.clear()
        # like a paste; the driver's own typing has no emoji
        self.js("arguments[0].value = arguments[1]", box, text)
        self.one("#go").click()
        self.until(lambda: self.shown() == text)

    def shown(self):
        return self.js("return document.getElementById('reading').textContent")

    def marks(self, kind=""):
        return self.all(f"#reading mark{kind}")

    def slide(self, value):
        self.js(
            "const s = document.getElementById('threshold'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input')); s.dispatchEvent(new Event('change'))",
            value,
        )

    def focused(self):
        return self.driver.switch_to.active_element


@pytest.fixture
def page(browser, running):
    page = Page(browser, running.url)
    yield page
    assert page.js("return window.hacked") is None
    noise = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert noise == []


def expected(running, **more):
    record = running.link(text=TEXT, unlinked=True, candidates=5, **more)
    return record["documents"][0]["mentions"]


def test_paste_link_and_hover(page, running):
    page.link(TEXT)
    taken = [m for m in expected(running) if m["linked"]]
    on = page.marks(":not(.off)")
    assert [mark.text for mark in on] == [TEXT[m["start"] : m["end"]] for m in taken]
    ActionChains(page.driver).move_to_element(on[0]).perform()
    card = page.one("#card")
    page.until(card.is_displayed)
    mention = taken[0]
    assert mention["entity"] in card.text and "no link at all" in card.text
    assert all(c["entity"] in card.text for c in mention.get("candidates", ()))
    known = {e.title: e for e, _ in ENTITIES}[mention["entity"]]
    assert known.description in card.text
    links = [link.get_attribute("rel") for link in page.all("#card a")]
    is_qid = (known.external_id or "").startswith("Q")
    assert links == ["noopener noreferrer"] * is_qid
    ActionChains(page.driver).move_to_element(page.one("h1")).perform()
    page.until(lambda: not card.is_displayed())


def test_the_slider_acts_at_once_and_both_ways(page, running):
    page.link(TEXT)
    before = running.gate.begun
    mentions = expected(running)
    before += 1
    decided = len(page.marks(":not(.off)"))
    for threshold in (1.0, 0.0, 0.5):
        page.slide(threshold)
        reached = [m for m in mentions if m["score"] >= threshold]
        assert len(page.marks(":not(.off)")) == len(reached)
        assert len(page.all("#dots i:not(.off)")) == len(reached)
    assert len(page.marks()) == len(mentions)
    assert running.gate.begun == before  # nothing was asked
    page.one("#reset").click()
    assert len(page.marks(":not(.off)")) == decided


def test_the_switch_links_with_the_other_system(page, running):
    page.link(TEXT)
    assert "INSGENEL-R" in page.one("#summary").text
    page.js("document.querySelector('input[value=insgenel]').click()")
    page.until(lambda: "INSGENEL-R" not in page.one("#summary").text)
    taken = [m for m in expected(running, system="insgenel") if m["linked"]]
    assert len(page.marks(":not(.off)")) == len(taken)


def test_a_permalink_brings_everything_back(page, browser, running):
    page.link(TEXT)
    page.js("document.querySelector('input[value=insgenel]').click()")
    page.until(lambda: "INSGENEL-R" not in page.one("#summary").text)
    page.slide(0.25)
    address = page.js("return location.href")
    shown = [mark.text for mark in page.marks(":not(.off)")]
    again = Page(browser, address)
    again.until(lambda: again.shown() == TEXT)
    assert again.one("#value").text == "0.25"
    assert again.js("return document.querySelector('#systems :checked').value") == (
        "insgenel"
    )
    assert [mark.text for mark in again.marks(":not(.off)")] == shown


def test_why_other_words_are_not_linked(page, running):
    page.link(TEXT)
    page.js("document.getElementById('why').click()")
    page.until(lambda: page.all("#reading .word"))
    assert page.shown() == TEXT
    word = next(w for w in page.all("#reading .word") if w.text == "said")
    ActionChains(page.driver).move_to_element(word).perform()
    page.until(lambda: "No name in the knowledge base" in page.one("#card").text)
    assert page.all("#legend li")
    page.slide(0.0)
    assert page.shown() == TEXT and page.all("#reading .word")


def test_by_keyboard_alone(page):
    box = page.one("#text")
    page.js("arguments[0].value = arguments[1]; arguments[0].focus()", box, TEXT)
    box.send_keys(Keys.CONTROL, Keys.ENTER)
    page.until(lambda: page.shown() == TEXT)
    for _ in range(20):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        if page.focused().tag_name == "mark":
            break
    first = page.focused().text
    assert page.one("#card").is_displayed()
    ActionChains(page.driver).send_keys(Keys.ARROW_RIGHT).perform()
    second = page.focused()
    assert second.tag_name == "mark" and second.text != first
    assert second.get_attribute("aria-describedby") == "card"
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert not page.one("#card").is_displayed()
    page.js("document.getElementById('threshold').focus()")
    on = len(page.marks(":not(.off)"))
    ActionChains(page.driver).send_keys(Keys.END).perform()
    assert len(page.marks(":not(.off)")) < on
    ActionChains(page.driver).send_keys(Keys.HOME).perform()
    assert len(page.marks(":not(.off)")) >= on


@pytest.mark.parametrize(
    "text",
    [
        "<script>window.hacked=1</script> Paris",
        "</mark><svg onload=window.hacked=1> Java",
        "Paris ${window.hacked=1} {{constructor}} &lt;b&gt; Java\n\n  Python",
        "\u202eParis\u0000\u001b Java \ufeff𝕏 👩‍🚀 Python",
    ],
)
def test_text_is_never_html(page, text):
    page.link(text)
    for mark in page.marks():
        page.js("arguments[0].focus()", mark)
        assert page.one("#card").is_displayed()
    assert page.js("return document.querySelectorAll('#reading *').length") == len(
        page.marks()
    )
    assert not page.all("#reading script, #reading svg, #card img, #card script")


def test_a_hostile_address_does_nothing(browser, running):
    address = f"{running.url}/#text=%3Cimg%20src=x%20onerror=window.hacked=1%3E"
    page = Page(browser, address + "&system=%22%5D&threshold=NaN")
    page.until(lambda: page.shown().startswith("<img"))
    assert page.js("return window.hacked") is None


def test_refusals_are_shown(page, running):
    page.js("document.getElementById('text').value = 'x'.repeat(60000)")
    page.one("#go").click()
    page.until(lambda: "at most 50,000 characters" in page.one("#error").text)
    page.driver.get_log("browser")  # the browser notes the refusal


def test_on_a_phone_nothing_is_wider_than_the_screen(page):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.link(TEXT)
        mark = page.marks()[-1]
        page.js("arguments[0].focus()", mark)
        assert page.js("return document.documentElement.scrollWidth") <= 360
        boxes = [
            page.js("return arguments[0].getBoundingClientRect().toJSON()", element)
            for element in (mark, page.one("#card"))
        ]
        assert boxes[0]["bottom"] <= boxes[1]["top"]  # the sheet does not cover it
        assert boxes[1]["bottom"] <= 740 and boxes[1]["left"] >= 0
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
