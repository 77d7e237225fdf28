"""The demo in a browser, on a desk and on a phone: all of it can be used, and nothing comes from outside."""

import re
import shutil

import pytest
from demo_server import running_demo

from hfvision import sample_photos

pytest.importorskip("gradio", reason="needs the demo extra")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the test extra")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
PHOTO = str(sample_photos()["cat"])
SECONDS = 60_000  # milliseconds to wait at most


@pytest.fixture(scope="module")
def url():
    with running_demo() as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=SIZES)
def page(request, browser, url):
    width, height = SIZES[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(SECONDS)
    outside, problems = [], []
    local = ("data:", "blob:", url)
    page.on("request", lambda asked: None if asked.url.startswith(local) else outside.append(asked.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    page.get_by_role("button", name="Classify", exact=True).wait_for()
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert outside == []
    assert problems == []
    page.close()


def open_tab(page, name):
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.locator(".overflow-menu > button:visible").click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def choose(page, button, file):
    """Give the file to the tab that has this button."""
    panel = page.get_by_role("tabpanel").filter(has=page.get_by_role("button", name=button, exact=True))
    panel.locator("input[type=file]").first.set_input_files(file)
    panel.get_by_label("Remove Image").first.wait_for()
    panel.get_by_role("button", name=button, exact=True).click()
    return panel


def test_upload_and_read_the_label(page):
    panel = choose(page, "Classify", PHOTO)
    panel.get_by_text(re.compile("ms an image")).wait_for()
    assert panel.locator("[data-testid=label-output-value]").first.inner_text().strip() == "tiger cat"


def test_the_slider_moves_over_the_upscaled_photograph(page):
    open_tab(page, "Upscale")
    panel = choose(page, "Upscale", PHOTO)
    panel.get_by_text(re.compile("451×300 → 902×600")).wait_for()
    for detail in panel.locator(".exact img").all():
        assert detail.evaluate("image => [image.width, image.height, image.naturalWidth]") == [288, 216, 288]
    handle = panel.locator(".slider-wrap .inner").first
    handle.scroll_into_view_if_needed()
    before = handle.bounding_box()
    middle = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 80, middle[1], steps=8)
    page.mouse.up()
    assert handle.bounding_box()["x"] < before["x"] - 40
    with page.expect_download() as caught:
        panel.locator("a[download]", has_text=re.compile("KB|MB")).first.click()
    assert caught.value.suggested_filename.endswith(".png")


def test_an_attack_is_shown(page):
    open_tab(page, "Robustness")
    panel = choose(page, "Attack", PHOTO)
    panel.get_by_text(re.compile("is fooled")).first.wait_for()
    assert panel.get_by_text("change, magnified").first.is_visible()


@pytest.mark.parametrize(
    ("tab", "button", "done"),
    [
        ("Classify", "Classify", "ms an image"),
        ("Upscale", "Upscale", "451×300 → 902×600"),
        ("Robustness", "Attack", "(standard)"),
    ],
)
def test_an_example_is_shown_with_its_result(page, tab, button, done):
    open_tab(page, tab)
    panel = page.get_by_role("tabpanel").filter(has=page.get_by_role("button", name=button, exact=True))
    panel.locator(".gallery-item").nth(1).click()
    panel.get_by_text(re.compile(re.escape(done))).first.wait_for()


def test_the_graph_is_drawn(page):
    open_tab(page, "Under the hood")
    page.get_by_role("button", name="Look inside", exact=True).click()
    page.locator(".graph svg").wait_for()
    assert page.get_by_text("multiply-adds").first.is_visible()


def test_a_text_file_is_refused_in_words(page, tmp_path):
    (tmp_path / "words.png").write_text("these are words")
    panel = page.get_by_role("tabpanel").first
    panel.locator("input[type=file]").first.set_input_files(tmp_path / "words.png")
    panel.get_by_label("Remove Image").first.wait_for()
    page.get_by_role("button", name="Classify", exact=True).click()
    message = page.get_by_test_id("toast-body")
    message.wait_for()
    assert "is not an image" in message.inner_text()
    assert "/tmp" not in message.inner_text()


def test_a_password_is_asked_for_and_opens_the_page(browser):
    with running_demo(auth=("ada", "secret")) as address:
        page = browser.new_page()
        page.set_default_timeout(SECONDS)
        page.goto(address)
        for password in ("wrong", "secret"):
            page.get_by_label("User").fill("ada")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Sign in").click()
            if password == "wrong":
                page.get_by_text("Incorrect credentials").wait_for()
        page.get_by_role("button", name="Classify", exact=True).wait_for()
        page.close()
