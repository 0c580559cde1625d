"""A web server for one folder, for looking at the page on this machine: `http.server` with what WebAssembly needs."""

import http.server
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Windows takes its types from the registry, where programs put wrong ones; browsers refuse scripts of another type.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".tflite": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    "": "application/octet-stream",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The first two isolate the page from others, without which browsers give it no memory that threads can share.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def make_server(
    folder: str | os.PathLike[str], host: str = "127.0.0.1", port: int = 8000, isolated: bool = True
) -> Any:
    """The folder of a page to a server that is bound but not yet serving: call `serve_forever`, then `server_close`.

    Args:
        folder: path; only files below it are served, links that lead out of it and hidden files are not.
        host: address to bind to; the default is reachable from this machine only.
        port: 0 for any free one, which `server_address[1]` then tells.
        isolated: whether to send the headers that let the page use threads.

    Returns:
        `http.server.ThreadingHTTPServer`.

    Raises:
        OSError: the address can't be bound; the message says what would do.
    """
    root = Path(folder).resolve()

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = _TYPES
        server_version = "keras-deeplab"
        sys_version = ""

        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(root), **kwargs)

        def send_head(self):
            if not _names_this_server(self.headers.get("Host", ""), host):
                self.send_error(421, "this server is not called that")
                return None
            path = self._path()
            if path is None:
                self.send_error(404)
                return None
            return super().send_head()

        def _path(self):
            """The file that is asked for, or None where there is none to be had."""
            try:
                path = Path(self.translate_path(self.path)).resolve()
            except (ValueError, OSError):  # a null byte, a loop of links, a name that is too long
                return None
            if path == root:
                path = root / "index.html"
            inside = path.is_relative_to(root) and not any(
                part.startswith(".") for part in path.relative_to(root).parts
            )
            return path if inside and path.is_file() else None

        def end_headers(self):
            for name, value in HEADERS.items():
                if isolated or not name.startswith("Cross-Origin"):
                    self.send_header(name, value)
            super().end_headers()

        def log_message(self, *args):
            pass

    try:
        server = http.server.ThreadingHTTPServer((host, port), Handler)
    except OverflowError as error:
        raise OSError(f"port {port} is none: choose 0 to 65535 with --port") from error
    except OSError as error:
        raise type(error)(
            f"can't listen on {host} port {port} ({error.strerror or error}): choose another --port, 0 for any"
        ) from error
    server.daemon_threads = True
    return server


def _names_this_server(header, host):
    """Whether a request's Host header is this machine's own name where only this machine can reach the server.

    A page of somebody else whose name was pointed to 127.0.0.1 (DNS rebinding) sends its own name.

    >>> _names_this_server("localhost:8000", "127.0.0.1"), _names_this_server("evil.example:8000", "127.0.0.1")
    (True, False)
    """
    if host not in _LOOPBACK:
        return True  # whoever binds it to other addresses lets others in
    name = header[: header.rfind("]") + 1] or header.partition(":")[0]
    return name.lower().strip("[]") in _LOOPBACK


def serve(
    folder: str | os.PathLike[str], host: str = "127.0.0.1", port: int = 8000, log: Callable[[str], Any] = print
) -> Any:
    """Serves the folder of a page until Ctrl+C.

    Args:
        folder, host, port: as in `make_server`.
        log: called with the line that tells the page's address.
    """
    with make_server(folder, host, port) as server:
        log(f"http://{host}:{server.server_address[1]}/ shows it; Ctrl+C ends the server")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log("ended")
