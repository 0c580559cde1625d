"""LiteRT's WebAssembly runtime from npm, fetched once when a page is built: `python -m keras_deeplab.demo.runtime`.

It is 30 MB, so it lives in a cache and not in this package. `npm/package-lock.json` holds the version and the checksums
of its archives; `FILES` those of every file that goes into a page.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import temporary_folder

VERSION = "2.5.3"

_CORE, _UTILS = "@litertjs/core", "@litertjs/wasm-utils"
# file of a page's runtime/ -> (where npm puts it below node_modules, SHA-256)
FILES = {
    "index.js": (
        f"{_CORE}/dist/index.js",
        "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3",
    ),
    "wasm-utils.js": (
        f"{_UTILS}/dist/index.js",
        "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2",
    ),
    # For browsers without relaxed SIMD, for those with it, and for pages that may also start threads.
    "litert_wasm_compat_internal.js": (
        f"{_CORE}/wasm/litert_wasm_compat_internal.js",
        "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5",
    ),
    "litert_wasm_compat_internal.wasm": (
        f"{_CORE}/wasm/litert_wasm_compat_internal.wasm",
        "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c",
    ),
    "litert_wasm_internal.js": (
        f"{_CORE}/wasm/litert_wasm_internal.js",
        "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb",
    ),
    "litert_wasm_internal.wasm": (
        f"{_CORE}/wasm/litert_wasm_internal.wasm",
        "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614",
    ),
    "litert_wasm_threaded_internal.js": (
        f"{_CORE}/wasm/litert_wasm_threaded_internal.js",
        "92fe7a720c6deedaa1194c011c79a005ea4f6fc98f533b661cf7900760ab4849",
    ),
    "litert_wasm_threaded_internal.wasm": (
        f"{_CORE}/wasm/litert_wasm_threaded_internal.wasm",
        "b5e54eca10f043497edf9a02186332707cae260c550d7ea22b2cae55669596cf",
    ),
}
# A page has no bundler that would resolve a package's name, and workers have no import map.
_IMPORT = f'import {{ createWasmLib }} from "{_UTILS}";'.encode()
_LOCAL_IMPORT = (
    b'import { createWasmLib } from "./wasm-utils.js"; // changed by keras_deeplab: was "@litertjs/wasm-utils"'
)
_BY_HAND = (
    f"On a machine with npm, `npm install {_CORE}@{VERSION}` makes a folder node_modules; copy it here and name it "
    "with --runtime"
)


def cache_folder() -> Path:
    """The folder that `fetch` fills: `$XDG_CACHE_HOME` or `~/.cache`, then `keras_deeplab/litertjs-VERSION`."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "keras_deeplab" / f"litertjs-{VERSION}"


def cached() -> Any:
    """Whether the runtime is in `cache_folder`, so that `fetch` needs no network."""
    return all((cache_folder() / "node_modules" / path).is_file() for path, _ in FILES.values())


def fetch(log: Callable[[str], Any] = print) -> Any:
    """The folder `node_modules` with LiteRT's npm packages, from the cache, or fetched into it with `npm ci`.

    Args:
        log: called with a line of text before npm is run.

    Returns:
        pathlib.Path.

    Raises:
        OSError: npm isn't installed, or failed; the message says how to do without it.
    """
    folder = cache_folder()
    modules = folder / "node_modules"
    if cached():
        return modules
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(
            f"the page needs {_CORE} {VERSION} from npm, which is neither in {folder} nor can be fetched: there is no "
            f"command npm. Install Node.js. {_BY_HAND}"
        )
    log(f"fetching {_CORE} {VERSION} with npm, once, into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(".litertjs-", folder.parent) as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(Path(__file__).parent / "npm" / name, scratch / name)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(
                command,
                cwd=scratch,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limits.NPM_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"npm ci didn't end within {limits.NPM_SECONDS} seconds. {_BY_HAND}") from error
        if done.returncode:
            raise OSError(f"npm ci failed ({done.returncode}): {done.stderr.strip()[-2000:]}. {_BY_HAND}")
        _verified(scratch / "node_modules")
        folder.mkdir(exist_ok=True)
        shutil.rmtree(modules, ignore_errors=True)  # a part of it would have counted as cached() otherwise
        os.replace(scratch / "node_modules", modules)
    return modules


def page_files(modules: Any) -> Any:
    """A folder `node_modules` to `{name in a page's runtime/: bytes}`, each file's checksum verified.

    Raises:
        ValueError: a file is missing, or isn't that of `VERSION`.
    """
    contents = _verified(modules)
    if contents["index.js"].count(_IMPORT) != 1:
        raise ValueError(f"{_CORE}'s index.js no longer imports {_UTILS} in the one way that is known")
    contents["index.js"] = contents["index.js"].replace(_IMPORT, _LOCAL_IMPORT)
    return contents


def _verified(modules):
    contents = {}
    for name, (path, checksum) in FILES.items():
        file = Path(modules) / path
        if not file.is_file():
            raise ValueError(
                f"{modules} doesn't hold {path}. It must be the folder node_modules after `npm install "
                f"{_CORE}@{VERSION}`; or leave --runtime out, then npm is run where the cache is empty"
            )
        contents[name] = file.read_bytes()
        found = hashlib.sha256(contents[name]).hexdigest()
        if found != checksum:
            raise ValueError(
                f"{file} isn't the file of {_CORE} {VERSION}: its SHA-256 is {found}, expected {checksum}. "
                "Delete its folder and fetch it again"
            )
    return contents


def main() -> Any:
    """Fetches the runtime and prints where it is; returns the exit status."""
    try:
        modules = fetch()
        _verified(modules)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{_CORE} {VERSION}: {modules}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
