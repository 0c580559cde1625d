"""Sends the demo page's server good and hostile requests at once: what comes back, and what it does to the server.

    python benchmarks/demo_load.py

serves a folder from a process of its own, as `keras-deeplab demo` does, and sends it 1,000 requests, 16 at a time, of
which 5 % are hostile: another host's name, paths out of the folder, a hidden file, a link that leads out, bytes that
are no HTTP, a request that never ends. It prints a line: good ones with the right file, hostile ones without any, wrong
ones, seconds, and the server's resident memory after the first 200 and at the end. The exit status is 1 if anything was
wrong, or if the server could be reached by another address of this machine than loopback.
"""

import argparse
import random
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving_load import resident_bytes

SERVER = """
import sys
from pathlib import Path
from keras_deeplab.demo.server import make_server
server = make_server(Path(sys.argv[1]), port=0)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
HOSTILE = {
    "another host": b"GET /index.html HTTP/1.1\r\nHost: evil.example:8000\r\n\r\n",
    "no host": b"GET /index.html HTTP/1.1\r\n\r\n",
    "a path out of it": b"GET /../secret.txt HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "the same, encoded": b"GET /%2e%2e/secret.txt HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a hidden file": b"GET /.hidden HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a link that leads out": b"GET /link.txt HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another method": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n",
    "no HTTP": bytes(range(256)) * 40,
    "a line without end": b"GET /" + b"a" * 200_000,
    "headers without end": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000,
}


def exchange(address, data):
    """Everything that a server answers to some bytes."""
    reply = b""
    with socket.create_connection(address, timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                reply += part
        except ConnectionError:
            pass
    return reply


def reachable_elsewhere(port):
    """Whether the port is open at an address of this machine that others reach."""
    names = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for name in names:
        if not name.startswith("127."):
            with socket.socket() as probe:
                if probe.connect_ex((name, port)) == 0:
                    return True
    return False


def main():
    """Runs it; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--hostile", type=float, default=0.05, help="share of the requests")
    options = parser.parse_args()
    shuffle = random.Random(0)
    kinds = [list(HOSTILE)[number % len(HOSTILE)] for number in range(round(options.requests * options.hostile))]
    kinds += ["good"] * (options.requests - len(kinds))
    shuffle.shuffle(kinds)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page"
        page.mkdir()
        files = {"index.html": b"<p>page</p>", "model.tflite": shuffle.randbytes(4 << 20), "main.js": b"1;\n" * 5000}
        for name, data in files.items():
            (page / name).write_bytes(data)
        (page / ".hidden").write_bytes(b"secret")
        (Path(folder) / "secret.txt").write_bytes(b"secret")
        (page / "link.txt").symlink_to(Path(folder) / "secret.txt")
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(page)], stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[1]
        )
        try:
            address = ("127.0.0.1", int(process.stdout.readline()))
            done, memory, wrong = [], {}, []

            def send(kind):
                if kind == "good":
                    name = shuffle.choice(list(files))
                    reply = exchange(address, f"GET /{name} HTTP/1.1\r\nHost: localhost:{address[1]}\r\n\r\n".encode())
                    if not (reply.startswith(b"HTTP/1.0 200 ") and reply.endswith(b"\r\n\r\n" + files[name])):
                        wrong.append(f"{name}: {reply[:60]}")
                else:
                    reply = exchange(address, HOSTILE[kind])
                    if b" 200 " in reply[:20] or b"secret" in reply or b"page" in reply:
                        wrong.append(f"{kind}: {reply[:60]}")
                done.append(kind)
                if len(done) == 200:
                    memory["200"] = resident_bytes(process.pid)

            begin = time.perf_counter()
            with ThreadPoolExecutor(options.concurrency) as pool:
                list(pool.map(send, kinds))
            seconds = time.perf_counter() - begin
            memory["end"] = resident_bytes(process.pid)
            if process.poll() is not None:
                wrong.append("the server has ended")
            if reachable_elsewhere(address[1]):
                wrong.append("it can be reached from elsewhere")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    hostile = sum(kind != "good" for kind in done)
    figures = ", ".join(f"{(memory.get(when) or 0) / 2**20:.0f} MiB at {when}" for when in ("200", "end"))
    print(
        f"{len(done) - hostile} good, {hostile} hostile, {options.requests - len(done)} lost, {len(wrong)} wrong, "
        f"{seconds:.1f} s, {figures}"
    )
    for line in wrong[:20]:
        print(f"wrong: {line}")
    return 1 if wrong or len(done) < options.requests else 0


if __name__ == "__main__":
    sys.exit(main())
