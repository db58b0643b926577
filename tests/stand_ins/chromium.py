"""Chromium without a window, by its DevTools protocol over two pipes.

It is described at https://chromedevtools.github.io/devtools-protocol. Over pipes a message is
JSON that ends with a zero byte, so that neither a driver nor a library for sockets is needed.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_SECONDS = 120
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--no-first-run",
    "--hide-scrollbars",
    "--mute-audio",
    # A camera that shows a moving pattern.
    "--use-fake-device-for-media-stream=fps=5",
    "--remote-debugging-pipe",
    "about:blank",
)


def find_chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


class Chromium:
    """A browser with one page; `faults` has its complaints since the page was opened."""

    def __init__(self, program):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # Bash, because others know one digit only, puts them where the browser looks for them.
        pipes = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (*os.pipe(), *os.pipe())]
        reads, self._to, self._from, writes = pipes
        arguments = [f"--user-data-dir={self._profile.name}", *_ARGUMENTS]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{reads} 4>&{writes}', program, *arguments],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._number, self._rest, self._events, self._session = 0, b"", [], None
        self.faults = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Calls a method of the protocol, and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _receive(self):
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._rest:
            assert time.monotonic() < end, "the browser does not answer"
            if select.select([self._from], [], [], 1)[0]:
                piece = os.read(self._from, 1 << 20)
                assert piece, "the browser has ended"
                self._rest += piece
        data, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(data)
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.faults.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.faults.append(parameters["exceptionDetails"])
        elif method is not None:
            self._events.append(method)
        return message

    def open(self, url):
        """Opens a page, and waits until it is loaded."""
        self.faults, self._events = [], []
        self.call("Page.navigate", url=str(url))
        while "Page.loadEventFired" not in self._events:
            self._receive()

    def run(self, expression):
        """Returns the value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression, seconds=60.0):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(expression):
            assert time.monotonic() < end, f"{expression} did not come about"
            time.sleep(0.05)

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def texts(self, selector):
        """Returns the text of each element that is shown."""
        return self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter((one) => one.checkVisibility()).map((one) => one.innerText)"
        )

    def focus(self, selector):
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")

    def press(self, key, text="", code=0):
        """Presses and releases a key, say "Enter" or "n"."""
        codes = {
            "Enter": 13,
            "Escape": 27,
            "Tab": 9,
            "ArrowLeft": 37,
            "ArrowRight": 39,
            "Home": 36,
            "End": 35,
        }
        text = text or {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        known = {"key": key, "windowsVirtualKeyCode": codes.get(key, code)}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def click(self, selector):
        """Clicks the middle of an element with the mouse."""
        x, y = self.run(
            f"(async () => {{ const one = document.querySelector({json.dumps(selector)});"
            "one.scrollIntoView({block: 'center', behavior: 'instant'});"
            # What is hit is decided by the picture that was drawn last.
            "for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);"
            "const box = one.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose(self, selector, value):
        """Gives a control a value as a person does: with its events."""
        self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            f"one.value = {json.dumps(value)};"
            "for (const kind of ['input', 'change']) one.dispatchEvent(new Event(kind)); })()"
        )

    def upload(self, selector, *paths):
        root = self.call("DOM.getDocument", depth=1)["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def resize(self, width, height):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def emulate(self, media="", scheme="light"):
        """Shows the page as on a medium ("print"), or on a bright or a dark screen."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def allow_camera(self, allowed):
        setting = "granted" if allowed else "denied"
        origin = self.run("location.origin")
        session, self._session = self._session, None
        self.call(
            "Browser.setPermission",
            permission={"name": "camera"},
            setting=setting,
            origin=origin,
        )
        self._session = session

    def print_pdf(self):
        """Returns the page on paper, as a PDF file's bytes."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def take_picture(self, path):
        """Writes what is seen to a PNG file."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def find_barriers(self):
        """Returns what keeps people out of the page that is shown."""
        return self.run(Path(__file__).with_name("barriers.js").read_text())

    def close(self):
        self._session = None
        self.call("Browser.close")
        self._process.wait(_SECONDS)
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()
