"""The report in a browser: nothing cut, nothing asked of any host, sorted and filtered by keys."""

import csv
import shutil

import numpy as np
import pytest

from skinfluence._cli import main
from skinfluence.nets import _stacked
from tests._shared.problems import noisy_blobs

pytest.importorskip("skrub", reason="skrub is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
X, Y, _ = noisy_blobs(n=120)
EVIL = [
    "=cmd|' /C calc'!A0",
    "<script>window.hurt = 1</script>",
    "<img src=x onerror='window.hurt = 1'>",
    "'\"><b id=hurt>",
    "https://example.org/x.png",
    "a_word_of_" + 9 * "thirty_letters_that_never_ends",
]
WIDTHS = (1280, 390)

# The texts that do not lie within the page, or are wider than what holds them.
CUT = """() => {
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || ["SCRIPT", "STYLE"].includes(parent.tagName)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.left < 0 || box.right > innerWidth + 1) found.push(node.textContent);
      for (let up = parent; up !== document.body; up = up.parentElement) {
        if (getComputedStyle(up).display === "inline") continue;
        const outer = up.getBoundingClientRect();
        if (box.right > outer.right + 1 || box.bottom > outer.bottom + 1)
          found.push(`${up.tagName}: ${node.textContent}`);
      }
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    path = folder / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "a", "b", "text", "<i>col</i>", "who", "label"])
        labels = np.array(["=ant", "bee", "c<b>at"])[Y]
        for row, (x, label) in enumerate(zip(X, labels, strict=True)):
            who = "ada" if row % 2 else "bob"
            writer.writerow([f"n{row}", x[0], x[1], EVIL[row % 6], row % 3, who, label])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_stacked, "_MAX_EPOCHS", 20)
        options = ["--target", "label", "--id-column", "name", "--by", "who", "--quiet"]
        assert main(["audit", str(path), *options]) == 0
    return folder / "data-audit" / "report.html"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        # as root, which containers run as, there is no sandbox
        started = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=WIDTHS)
def page(request, browser, report):
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    opened.said, opened.asked = [], []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.on("dialog", lambda dialog: opened.said.append(dialog.message))
    opened.on("request", lambda asked: opened.asked.append(asked.url))
    opened.goto(report.as_uri())
    opened.wait_for_load_state("networkidle")
    yield opened
    opened.close()


def first_cells(page, column):
    return page.eval_on_selector_all(
        "#worst tbody tr", f"lines => lines.map(line => line.cells[{column}].textContent)"
    )


def test_nothing_is_asked_of_any_host_and_nothing_of_the_table_runs(page, report):
    assert [url for url in page.asked if not url.startswith("data:")] == [report.as_uri()]
    assert not page.said
    assert page.evaluate("window.hurt") is None
    assert page.locator("script").count() == 1
    assert page.locator("#hurt, i, a").count() == 0
    shown = page.inner_text("#worst")
    assert "<script>window.hurt = 1</script>" in shown
    assert "<i>col</i>" in shown


def test_every_picture_is_seen_whole(page):
    pictures = page.locator("img")
    assert pictures.count() == 3
    for number in range(3):
        picture = pictures.nth(number)
        box = picture.bounding_box()
        assert picture.evaluate("image => image.complete && image.naturalWidth") > 100
        assert box["width"] > 250
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= page.viewport_size["width"]


def test_no_text_is_cut(page):
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_text_that_is_cut_would_be_found(page):
    page.evaluate("document.querySelector('h1').style.whiteSpace = 'nowrap'")
    page.evaluate("document.querySelector('h1').textContent = 'word '.repeat(99)")
    assert page.evaluate(CUT)


def test_the_table_is_sorted_and_filtered_by_keys_alone(page):
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    buttons = page.eval_on_selector_all("button", "all => all.map(one => one.textContent)")
    assert {"filter", *buttons} <= set(reached)

    head = page.locator("#worst th", has_text="row").first
    for direction, order in (("ascending", 1), ("descending", -1)):
        head.locator("button").focus()
        page.keyboard.press("Enter")
        numbers = [int(text) for text in first_cells(page, 0)]
        assert numbers == sorted(numbers, key=lambda number: order * number)
        assert head.get_attribute("aria-sort") == direction

    every = page.locator("#worst tbody tr").count()
    page.locator("#filter").focus()
    page.keyboard.type("N1")
    kept = [name for name in first_cells(page, 1) if name.startswith("n1")]
    assert page.locator("#worst tbody tr:visible").count() == len(kept) < every
    assert page.inner_text("#count") == f"{len(kept)} of {every} rows"
