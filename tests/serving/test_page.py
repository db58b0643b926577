"""The page in a real browser. Chromium's driver speaks plain HTTP: https://www.w3.org/TR/webdriver2/."""

import re
import shutil
import subprocess

import httpx
import pytest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name of a reference.


class Browser:
    def __init__(self, port):
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1200,900",
        ]
        options = {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        self._path = ""
        session = self.call("POST", "/session", capabilities={"alwaysMatch": options})
        self._path = f"/session/{session['sessionId']}"

    def call(self, method, path, **body):
        answer = self._http.request(
            method, self._path + path, json=body if method == "POST" else None
        ).json()["value"]
        assert not isinstance(answer, dict) or "error" not in answer, answer
        return answer

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", script=f"return {script}", args=list(arguments))

    def type_into(self, selector, text):
        found = self.call("POST", "/element", using="css selector", value=selector)[ELEMENT]
        self.call("POST", f"/element/{found}/value", text=str(text))

    def text(self, selector):
        return self.run("document.querySelector(arguments[0]).innerText", selector)

    def close(self):
        self.call("DELETE", "")
        self._http.close()


@pytest.fixture(scope="module")
def browser():
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("chromedriver is not installed (Debian: apt-get install chromium-driver)")
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        port = next(
            found.group(1)
            for line in process.stdout
            if (found := re.search(r"started successfully on port (\d+)", line))
        )
        opened = Browser(port)
        yield opened
        opened.close()
        process.terminate()


def boxes(browser):
    return browser.run("[...document.querySelectorAll('.box')].map(box => box.innerText)")


def test_a_person_uploads_a_picture_and_sees_boxes(browser, served, kit, tmp_path):
    # Stored on its side, as phones do: what the browser shows and what the boxes lie on are both
    # upright.
    (tmp_path / "picture.png").write_bytes(
        kit.encode((10, 10, 200), (300, 200), "JPEG", orientation=6)
    )
    browser.call("POST", "/url", url=str(served.client.base_url))
    kit.wait_until(lambda: browser.text("#classes") == "Finds 3 classes: red, green, <b>blue</b>")
    browser.type_into("#file", tmp_path / "picture.png")
    kit.wait_until(lambda: browser.text("#status").startswith("1 object, 1 below the threshold"))
    # A class's name is text, whatever it looks like.
    assert boxes(browser) == ["<b>blue</b> 0.90"]
    assert browser.text("#list").split("\n") == ["<b>blue</b>", "0.90"]
    place = browser.run(
        "(([box, image]) => [(box.left - image.left) / image.width,"
        " (box.top - image.top) / image.height,"
        " box.width / image.width, box.height / image.height])"
        "([document.querySelector('.box'), document.getElementById('picture')]"
        ".map(one => one.getBoundingClientRect()))"
    )
    assert place == pytest.approx([0.1, 0.25, 0.4, 0.5], abs=0.01)

    # The slider filters without asking the server again; so do the keys.
    asked = kit.metric(served.client, 'detflow_requests_total{route="predict"')
    browser.run(
        "arguments[0].value = 0.1, arguments[0].dispatchEvent(new Event('input'))",
        _find(browser, "#threshold"),
    )
    assert sorted(boxes(browser)) == ["<b>blue</b> 0.20", "<b>blue</b> 0.90"]
    assert browser.text("#counts") == "<b>blue</b> 2"
    browser.type_into("#threshold", "\ue013" * 11)
    assert (browser.text("#shown"), boxes(browser)) == ("0.21", ["<b>blue</b> 0.90"])
    assert kit.metric(served.client, 'detflow_requests_total{route="predict"') == asked

    browser.type_into("#list button", "\ue007")
    assert browser.run("document.querySelector('.box').classList.contains('lit')")
    browser.call("POST", "/window/rect", width=500, height=900)
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    logged = browser.call("POST", "/se/log", type="browser")
    assert not [entry for entry in logged if entry["level"] == "SEVERE"], logged


def test_the_page_says_why_a_picture_is_not_served(browser, served, kit, tmp_path):
    browser.call("POST", "/url", url=str(served.client.base_url))
    (tmp_path / "broken.png").write_bytes(b"hello")
    browser.type_into("#file", tmp_path / "broken.png")
    kit.wait_until(lambda: browser.text("#status").startswith("broken.png: image undecodable"))
    (tmp_path / "large.png").write_bytes(b"x" * 300_000)
    browser.type_into("#file", tmp_path / "large.png")
    kit.wait_until(lambda: browser.text("#status").startswith("The file has 0.3 MiB"))
    assert boxes(browser) == []


def test_the_page_asks_for_the_token(browser, served_dir, kit, tmp_path):
    (tmp_path / "picture.png").write_bytes(kit.encode())
    with kit.running(served_dir, token=kit.token) as server:
        browser.call("POST", "/url", url=str(server.client.base_url))
        kit.wait_until(lambda: browser.text("#status") == "The server asks for a token.")
        browser.type_into("#token", "not this one\ue007")
        kit.wait_until(lambda: browser.text("#status") == "The server does not accept this token.")
        browser.run("document.getElementById('token').value = ''")
        browser.type_into("#token", f"{kit.token}\ue007")
        kit.wait_until(lambda: browser.text("#classes").startswith("Finds 3 classes"))
        browser.type_into("#file", tmp_path / "picture.png")
        kit.wait_until(lambda: boxes(browser) == ["red 0.90"])


def _find(browser, selector):
    return browser.call("POST", "/element", using="css selector", value=selector)
