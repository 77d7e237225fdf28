"""Makes the README's pictures of the demo: one of each tab, in a headless Chromium.

python scripts/make_screenshots.py
"""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from hfvision import sample_photos
from hfvision.demo.app import build, launch_options

DOCS = Path(__file__).parents[1] / "docs" / "images"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
TABS = {  # the button of each tab, and a text that is there when it is done
    "Classify": ("Classify", "ms an image"),
    "Upscale": ("Upscale", "megapixels) in"),
    "Robustness": ("Attack", "(standard)"),
    "Under the hood": ("Look inside", "multiply-adds"),
}
WIDTH, HEIGHT = 1180, 960


def take(page: Page, tab: str) -> Image.Image:
    """A picture of the tab at work."""
    button, done = TABS[tab]
    page.get_by_role("tab", name=tab).click()
    panel = page.get_by_role("tabpanel").filter(has=page.get_by_role("button", name=button, exact=True))
    if tab != "Under the hood":
        panel.locator("input[type=file]").first.set_input_files(str(sample_photos()["cat"]))
        panel.get_by_label("Remove Image").first.wait_for()
    panel.get_by_role("button", name=button, exact=True).click()
    panel.get_by_text(done).first.wait_for()
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)
    return Image.open(io.BytesIO(page.screenshot()))


def main() -> None:
    demo = build()
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    with sync_playwright() as run:
        browser = run.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(url)
        for tab in TABS:
            name = f"demo-{tab.split()[-1].lower()}.jpg"
            take(page, tab).convert("RGB").save(DOCS / name, quality=88)
            print(DOCS / name)
        browser.close()
    demo.close()


if __name__ == "__main__":
    main()
