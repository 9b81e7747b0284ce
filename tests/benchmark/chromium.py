"""A headless Chromium, driven over its debugging pipe: no driver and no library are needed."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Elements that reach outside the viewport and are not inside one that scrolls on purpose.
OVERFLOWING = """
[...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  const outside = box.right > document.documentElement.clientWidth + 1 && box.width > 0;
  return outside && !e.closest('.scroll') && !e.closest('svg') && !e.classList.contains('skip');
}).map(e => e.tagName + '.' + e.className).slice(0, 5)
"""


def find_chromium() -> str | None:
    """Return the browser's command; None where it is not installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._number, self._rest, self._session = 0, b"", ""
        self.messages: list[str] = []  # errors and warnings of the console, exceptions, requests

    def start(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = session["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, file: Path, *, width: int, scheme: str) -> None:
        """Load a file in a window of some width, light or dark, and wait until it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.messages.clear()
        self.call("Page.navigate", url=file.resolve().as_uri())
        self._wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press_tab(self) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                      windowsVirtualKeyCode=9)  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _wait_for(self, event: str) -> None:
        while self._read().get("method") != event:
            pass

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            block = os.read(self._from, 1 << 16)
            assert block, "Chromium ended"
            self._rest += block
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, values: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
            self.messages.append(str(values["args"]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(str(values["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.messages.append(values["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = values["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                self.messages.append(f"request to {url}")


@contextlib.contextmanager
def browse(profile: Path) -> Iterator[Page]:
    """Yield a page of a browser that ends with the block."""
    command = find_chromium()
    assert command is not None
    their_input, to_browser = os.pipe()
    from_browser, their_output = os.pipe()
    # Chromium reads from descriptor 3 and writes to 4; a shell puts them there.
    options = "--headless=new --no-sandbox --disable-gpu --remote-debugging-pipe"
    pipes = f"3<&{their_input} 4>&{their_output}"
    script = f'exec "{command}" {options} --user-data-dir="{profile}" about:blank {pipes}'
    process = subprocess.Popen(
        ["bash", "-c", script],
        pass_fds=(their_input, their_output),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_input)
    os.close(their_output)
    page = Page(to_browser, from_browser)
    try:
        page.start()
        yield page
    finally:
        process.terminate()
        process.wait(10)
        os.close(to_browser)
        os.close(from_browser)
