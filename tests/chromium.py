"""A headless Chromium, driven over the pipe that it offers for debugging: no driver program, nothing to install."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]
# Chromium listens on descriptor 3 and answers on 4.
_START = "import os, sys; os.dup2({}, 3); os.dup2({}, 4); os.execv(sys.argv[1], sys.argv[1:])"


def executable():
    """The path of a Chromium on this machine, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a Chromium of its own that can reach this machine alone.

    Attributes:
        requests: addresses that the page asked for.
        errors: what its scripts threw and nobody caught, and what its security policy refused.
    """

    def __init__(self, program, timeout=60):
        self.timeout = timeout
        self.requests, self.errors = [], []
        self._count, self._received, self._session = 0, b"", None
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        theirs, self._to = _pipe()
        self._from, answers = _pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(theirs, answers), program, *_FLAGS]
            + ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={self._profile}"],
            pass_fds=(theirs, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(answers)
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self):
        """Ends the browser and removes what it wrote."""
        self._process.terminate()
        self._process.wait(self.timeout)
        os.close(self._to)
        os.close(self._from)
        with contextlib.suppress(OSError):
            shutil.rmtree(self._profile)

    def call(self, method, **params):
        """A method of the Chrome DevTools Protocol and its parameters to its result."""
        self._count += 1
        number = self._count
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def evaluate(self, expression):
        """JavaScript, awaited where it is a promise, to its value."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression):
        """Waits until JavaScript's value is true, and returns it."""
        end = time.monotonic() + self.timeout
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} stayed {value!r} for {self.timeout} seconds"
            time.sleep(0.05)
        return value

    def open(self, address):
        """Loads a page."""
        self.call("Page.navigate", url=address)
        self.wait(f"location.href === {json.dumps(address)} && document.readyState === 'complete'")

    def screenshot(self):
        """The bytes of a PNG of what is seen."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _message(self):
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._from], [], [], self.timeout)
            assert ready, f"Chromium said nothing for {self.timeout} seconds"
            part = os.read(self._from, 1 << 20)
            assert part, f"Chromium ended ({self._process.poll()})"
            self._received += part
        message, self._received = self._received.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event, params):
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif event == "Log.entryAdded" and params["entry"]["source"] in ("security", "violation"):
            self.errors.append(params["entry"]["text"])


def _pipe():
    """The two ends of a pipe, neither of them 3 or 4."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return ends
