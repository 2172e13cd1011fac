"""The report in headless Chromium, opened from disk; skipped where Debian's chromium and chromium-driver are not."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imsave
from selenium import webdriver
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from omnirouter.analysis.plot import colours
from omnirouter.analysis.report.write import write_report
from omnirouter.data.datadir import Utterance, write_data_dir

COUNT, PAGE_ROWS, WAIT_S = 60, 50, 20
EVIL = '<script>window.hacked=1</script> <img/src=x/onerror=window.hacked=1> "quoted" naïve Ω'


def text_of(number: int) -> str:
    return EVIL if number == 7 else f"WORD{number} {'MORE ' * (number % 5)}END"


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_experiment) -> Path:
    """60 utterances of two speakers by a dense, a Switch and an Omni-router experiment; awkward names throughout.

    In utt00 all have one error, not all the same.
    """
    folder = tmp_path_factory.mktemp("report") / 'a "folder" #1 of 100%'
    (folder / "wavs").mkdir(parents=True)
    rng = np.random.default_rng(0)
    utterances = []
    for i in range(COUNT):
        path = folder / f"wavs/{i}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(8000 + 160 * i), 16000)
        utterances.append(Utterance(f"utt{i:02d}", path, text_of(i), "zoë" if i % 3 else "ann"))
    texts = {utt.utt_id: utt.text for utt in utterances}
    wrong = {f"utt{i:02d}": f"WORD{i} SO WRONG" for i in range(10, 15)} | {"utt00": "WORD0 FRIEND"}
    for name in ("test", "dev #2"):
        write_data_dir(folder / f"data/{name}", utterances)
        for kind, hypotheses in (
            ("dense", texts | {"utt00": "WORD0 BEND"}),
            ("switch <b>", texts | wrong),
            ("omnirouter", texts | {"utt03": "", "utt00": "WORD0 BEND"}),
        ):
            encoder = kind.split()[0]
            steps = (10, 25, 45, 60) if kind == "omnirouter" else (10, 20, 30)
            path, data = folder / f"exp/{kind}", folder / f"data/{name}"
            make_experiment(path, encoder, data, hypotheses, with_ctm=True, steps=steps)
    for name in ("random_routing_dev #2/fig3_random_routing", "routing_dev #2/fig2_utt#1", "figures/load"):
        path = folder / f"exp/omnirouter/{name}.png"
        path.parent.mkdir(exist_ok=True)
        imsave(path, np.zeros((2, 3)))
    write_report([folder / f"exp/{kind}" for kind in ("dense", "switch <b>", "omnirouter")], folder / "report")
    return folder / "report"


class Page:
    """The report as it is seen."""

    def __init__(self, browser: webdriver.Chrome, report: Path) -> None:
        self.browser = browser
        browser.get((report / "index.html").as_uri())
        self.until(lambda: self.run("return document.documentElement.dataset.ready"))

    def run(self, script: str, *arguments: object) -> object:
        return self.browser.execute_script(script, *arguments)

    def until(self, condition) -> None:
        WebDriverWait(self.browser, WAIT_S, poll_frequency=0.05).until(lambda _: condition())

    def one(self, selector: str):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def column(self, name: str) -> list[str]:
        """The texts of a column of the list."""
        script = "return [...document.querySelectorAll(arguments[0])].map((cell) => cell.textContent)"
        return self.run(script, f"#list-body .{name}")

    def sort(self, key: str) -> None:
        before = self.text("#list-head [aria-sort] button")
        self.one(f"#list-head [data-sort={key}]").click()
        self.until(lambda: self.text("#list-head [aria-sort] button") != before)

    def search(self, text: str, expected: str) -> None:
        box = self.one("#search")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(Keys.BACKSPACE, text)
        self.until(lambda: self.text("#count") == expected)

    def press(self, key: str) -> None:
        self.one("body").send_keys(key)

    def read_at_step(self, step: int, last: int) -> tuple[str, float]:
        """What the first training curve, whose axis ends at `last`, says with the pointer at a step; the cursor's."""
        script = """const chart = document.querySelector("#training-body svg");
            chart.scrollIntoView({ block: "center" });
            const { x, y, width, height } = chart.getBoundingClientRect();
            return [x + CHART.left, width - CHART.left - CHART.right, y + height / 2];"""
        left, width, middle = self.run(script)
        moves = ActionBuilder(self.browser)
        moves.pointer_action.move_to_location(1, 1).move_to_location(round(left + width * step / last), round(middle))
        moves.perform()
        cursor = self.run("return document.querySelector('#training-body .cursor').getAttribute('x1') - CHART.left")
        return self.text("#training-body output"), cursor / width * last

    def colours_at(self, *points: tuple[float, float]) -> list[list[int]]:
        """Red, green and blue of the timeline at points (x, y), shares of its width and height."""
        script = """const { width, height } = document.querySelector("#detail canvas");
            const pen = document.querySelector("#detail canvas").getContext("2d");
            const { data } = pen.getImageData(0, 0, width, height);
            const start = ([x, y]) => 4 * (Math.floor(y * height) * width + Math.floor(x * width));
            return arguments[0].map((point) => [...data.slice(start(point), start(point) + 3)]);"""
        return self.run(script, points)


@pytest.fixture
def page(browser, report) -> Iterator[Page]:
    shown = Page(browser, report)
    yield shown
    assert shown.browser.get_log("browser") == []
    assert not shown.one("#failure").is_displayed()
    sources = shown.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(source.startswith(("file:", "data:")) for source in sources)


def test_results_curves_and_routing_are_drawn(page):
    cells = [cell.text for cell in page.browser.find_elements(By.CSS_SELECTOR, "#results tbody tr:nth-child(1) > *")]
    words = sum(len(text_of(i).split()) for i in range(COUNT))
    assert cells[:3] == ["dev #2", "dense", "dense"] and f"{100 / words:.2f}" in cells
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "#training-body svg")) == 4
    assert "no routing" in page.text("#routing-body")
    page.press("2")
    page.until(lambda: page.browser.find_elements(By.CSS_SELECTOR, "#routing-body .load"))
    assert (
        page.one("#routing-body .load").get_attribute("aria-label")
        == f"Layer 2: 0.0, 50.0,{' 0.0,' * 7} 50.0, 0.0, 0.0 %"
    )


def test_curves_are_read_at_the_pointer_and_end_with_their_trainings(page):
    """CTC losses of 100 / step, of two trainings of steps 10, 20, 30 and one of 10, 25, 45, 60."""
    for step, read_at, values in (
        (20, 20, "dense 5 · switch <b> 5 · omnirouter 4"),
        (26, 25, "dense 5 · switch <b> 5 · omnirouter 4"),
        (30, 30, "dense 3.3333 · switch <b> 3.3333 · omnirouter 4"),
        (44, 45, "dense – · switch <b> – · omnirouter 2.2222"),
        (60, 60, "dense – · switch <b> – · omnirouter 1.6667"),
        (5, 10, "dense 10 · switch <b> 10 · omnirouter 10"),
    ):
        expected = (f"training step {read_at}: {values}", pytest.approx(read_at))
        page.until(lambda step=step, expected=expected: page.read_at_step(step, last=60) == expected)


def test_figures_of_stage_7_are_shown(page):
    page.press("3")
    captions = "return [...document.querySelectorAll('.gallery figcaption')].map((one) => one.textContent)"
    page.until(lambda: page.run(captions))
    assert [caption[:7] for caption in page.run(captions)] == ["Fig. 2:", "Fig. 3:", "Load of"]
    page.run("document.querySelector('.gallery').scrollIntoView()")  # pictures are loaded when they are seen
    widths = "return [...document.querySelectorAll('.gallery img')].map((one) => one.naturalWidth)"
    page.until(lambda: page.run(widths) == [3, 3, 3])


def test_columns_sort_both_ways(page):
    page.sort("length")
    lengths = [float(length) for length in page.column("length")]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == PAGE_ROWS
    page.sort("length")
    assert page.column("id")[0] == "utt00"
    assert page.one("#list-head [aria-sort]").get_attribute("aria-sort") == "ascending"
    page.sort("id")
    assert page.column("id") == [f"utt{i:02d}" for i in range(PAGE_ROWS)]
    page.sort("speaker")
    assert page.column("speaker") == ["ann"] * 20 + ["zoë"] * 30
    page.press("2")
    page.sort("errors")
    assert page.column("errors")[:7] == ["5", "4", "3", "2", "2", "1", "0"]
    page.sort("wer")
    rates = [float(rate) for rate in page.column("wer")]
    assert rates == sorted(rates, reverse=True) and rates[0] > 0


def test_words_ids_and_speakers_are_found(page):
    page.search("word12 more", "1–1 of 1")
    assert page.column("id") == ["utt12"] and page.text("#detail-title") == "utt12"
    page.search("UTT3", "1–10 of 10")
    page.search("zoë", "1–40 of 40")
    page.search("no such words", "nothing found")
    assert page.column("id") == [] and "No utterance" in page.text("#detail")
    page.search("", "1–50 of 60")
    page.one("#page-on").click()
    assert page.text("#count") == "51–60 of 60" and not page.one("#page-on").is_enabled()


def test_filters(page):
    page.press("2")
    Select(page.one("#filter")).select_by_value("wrong")
    page.until(lambda: page.text("#count") == "1–6 of 6")
    Select(page.one("#filter")).select_by_value("differ")
    page.until(lambda: page.text("#count") == "1–7 of 7")
    assert "utt00" in page.column("id"), "as many errors in each, but other words"


def test_markup_in_a_transcript_is_text(page):
    page.search("hacked", "1–1 of 1")
    assert page.text("#list-body .text") == EVIL
    words = [word.text for word in page.browser.find_elements(By.CSS_SELECTOR, ".alignment li > span:first-child")]
    assert words[: len(EVIL.split())] == EVIL.split()
    assert page.run("return window.hacked") is None
    assert page.one("#experiments label:nth-child(2)").text == "switch <b>"


def test_audio_plays_and_is_not_loaded_before(page):
    page.search("utt05", "1–1 of 1")
    state = "const audio = document.getElementById('player'); return [audio.readyState, audio.currentTime, audio.error]"
    assert page.run(state) == [0, 0, None]
    heard = "return performance.getEntriesByType('resource').filter((entry) => entry.name.endsWith('.ogg')).length"
    assert page.run(heard) == 0
    page.run("document.activeElement.blur()")
    page.press("p")
    page.until(lambda: page.run(state)[1] > 0)
    assert page.run("return document.getElementById('player').duration") == pytest.approx(0.55, abs=0.02)
    page.until(lambda: page.one(".playhead").is_displayed())
    page.until(lambda: page.run("return document.getElementById('player').ended"))


def test_experiments_switch_by_click_and_by_key(page):
    page.search("utt12", "1–1 of 1")
    assert "dense: 0 errors in 4 words (raw WER 0.0 %)" in page.text("#detail")
    assert page.text("#list-head [data-sort=wer]") == "raw WER %"
    page.one("#experiments label:nth-child(2)").click()
    page.until(lambda: "switch <b>: 3 errors" in page.text("#detail"))
    shown = page.browser.find_elements(By.CSS_SELECTOR, "#detail .alignment")[0]
    marks = [item.get_attribute("class") for item in shown.find_elements(By.CSS_SELECTOR, "li")]
    assert sorted(marks) == ["C", "D", "S", "S"]
    assert {mark.text for mark in shown.find_elements(By.CSS_SELECTOR, "b")} == {"S", "D"}
    page.run("document.activeElement.blur()")
    page.press("3")
    page.until(lambda: "omnirouter: 0 errors" in page.text("#detail"))
    assert page.one("#experiments input[value='2']").is_selected()


def test_the_ribbon_has_the_experts_of_layers_over_time(page):
    """Waveform, layer 2 (expert 1, then 9), layer 1 (expert 0), words of reference and hypothesis, seconds."""
    page.press("3")
    page.until(lambda: page.one("#experiments input[value='2']").is_selected())
    page.search("utt12", "1–1 of 1")
    height = 66 + 6 + 2 * 16 + 6 + 2 * 20 + 18
    upper, lower = (66 + 6 + 2) / height, (66 + 6 + 16 + 2) / height
    points = [(0.1, upper), (0.9, upper), (0.1, lower), (0.9, lower)]
    of_figures = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours(10)]
    assert page.colours_at(*points) == [of_figures[expert] for expert in (1, 9, 0, 0)]
    chips = "return [...document.querySelectorAll('#routing-body .experts .chip')].map((one) => one.style.background)"
    assert page.run(chips)[9] == "rgb({}, {}, {})".format(*of_figures[9])
    assert "expert of each token in 2 layers" in page.one("#detail canvas").get_attribute("aria-label")
    page.press("1")
    page.until(lambda: "expert" not in page.one("#detail canvas").get_attribute("aria-label"))


def test_sets_switch_and_keys_go_through_the_list(page):
    page.sort("id")
    page.press("j")
    page.until(lambda: page.text("#detail-title") == "utt01")
    page.press("k")
    page.until(lambda: page.text("#detail-title") == "utt00")
    Select(page.one("#set")).select_by_visible_text("test")
    page.until(lambda: page.run("return REPORT.state.set") == 1)
    page.until(lambda: page.text("#count") == "1–50 of 60")


def test_a_broken_folder_is_said(browser, report, tmp_path):
    shutil.copytree(report, tmp_path / "copy", ignore=shutil.ignore_patterns("set0-0.js", "*.ogg"))
    browser.get((tmp_path / "copy/index.html").as_uri())
    WebDriverWait(browser, WAIT_S).until(lambda _: browser.find_element(By.ID, "failure").is_displayed())
    assert "data/set0-0.js cannot be read" in browser.find_element(By.ID, "failure").text
    assert browser.get_log("browser")


def test_a_phone_shows_all_without_scrolling_sideways(browser, report):
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page = Page(browser, report)
        assert page.run("return document.documentElement.scrollWidth") == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
