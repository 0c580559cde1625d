"""The part of the Hugging Face Hub that fetching needs, on this machine: files of one repository at one commit."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def serving(repo, files, commit="0123456789abcdef0123456789abcdef01234567"):
    """Serves `{name: bytes}` as `repo`; gives (address, list of the paths that were asked for)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            path = self.path.partition("?")[0]
            about = f"/api/models/{repo}"
            if path in (about, f"{about}/revision/main", f"{about}/revision/{commit}"):
                siblings = [{"rfilename": name} for name in files]
                self._answer(json.dumps({"id": repo, "modelId": repo, "sha": commit, "siblings": siblings}).encode())
                return
            name = path.removeprefix(f"/{repo}/resolve/{commit}/").removeprefix(f"/{repo}/resolve/main/")
            if name in files:
                self._answer(files[name])
                return
            code = "RevisionNotFound" if path.startswith(f"{about}/") else "RepoNotFound"
            self._answer(b"{}", 404, {"X-Error-Code": code})

        do_HEAD = do_GET

        def _answer(self, content, status=200, headers=None):
            self.send_response(status)
            etag = hashlib.sha1(content).hexdigest()
            told = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Content-Length": str(len(content))}
            for name, value in (told | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
