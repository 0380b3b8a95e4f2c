"""Run by the engine's Python: opens a map in Chromium, lassoes particles, makes a set of them.

Prints, as JSON, the particle under the pointer and its card, the rows that were selected and the
answer that the page showed. Exit code 77: there is no browser.
"""

from __future__ import annotations

import json
import os
import shutil
import sys

NO_BROWSER = 77
SOFTWARE_GRAPHICS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")


def main(address, name, rows):
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return NO_BROWSER
    found = os.environ.get("CRYOSIAM_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=SOFTWARE_GRAPHICS)
        except Error:
            return NO_BROWSER
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_function("window.cryosiamMap && window.cryosiamMap.state()")
        x, y = project(page, rows[0])
        page.mouse.move(x, y)
        page.wait_for_selector("#hover:not([hidden])")
        hovered = {"row": page.evaluate("cryosiamMap.state().hovered")}
        hovered["card"] = page.inner_text("#hover")
        lasso(page, [project(page, row) for row in rows])
        selected = page.evaluate("cryosiamMap.state().selected")
        page.fill("#set-name", name)
        page.click("#send")
        page.wait_for_selector("#answer.good, #answer.bad", timeout=120_000)
        answer = page.inner_text("#answer")
        browser.close()
    told = {"hovered": hovered, "selected": selected, "answer": answer, "complaints": complaints}
    print(json.dumps(told))
    return 0


def project(page, row):
    """Where a particle is on the screen."""
    x, y = page.evaluate(f"cryosiamMap.project({row})")
    return x, y


def lasso(page, points):
    """Draw around some particles, with the mouse."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right, top, bottom = min(xs) - 6, max(xs) + 6, min(ys) - 6, max(ys) + 6
    page.keyboard.press("l")
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(*corner, steps=5)
    page.mouse.up()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
