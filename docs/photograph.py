"""Photographs of a run's page for the documentation: python docs/photograph.py results/demo."""

from __future__ import annotations

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from spinmesh.view import write_page

IMAGES = Path(__file__).with_name("images")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def main(run: str) -> None:
    """Photograph the reconstruction with a measurement under the cursor."""
    page_file = Path(run, "view.html").absolute()
    write_page([run], page_file)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1180, "height": 720})
        page.goto(page_file.as_uri())
        page.get_by_role("button", name="reconstruction", exact=True).click()
        page.locator("#signals circle[cx]").nth(75).hover(force=True)
        keep(page, "view")
        browser.close()


def keep(page: Page, name: str) -> None:
    """Save what the page shows in 256 colours, which makes a third of the bytes."""
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
