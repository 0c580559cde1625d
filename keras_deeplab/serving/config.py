"""The files that TensorFlow Serving reads beside the models: which models there are, batching, monitoring, Docker."""

import os
import re
from pathlib import Path

from keras_deeplab._helpers.files import write_whole

MODELS_CONFIG = "models.config"
# Where compose.yaml shows the server the folder.
MOUNT = "/models"

_BATCHING = """\
# Threads for the models whose version has a batching_params.pbtxt (export-saved-model --batch-requests N); the others
# compute each call by itself. See docs/serving.md for when that is worth it.
num_batch_threads { value: 2 }
thread_pool_name { value: "batching" }
"""

_MONITORING = """\
# curl http://localhost:8501/monitoring/prometheus/metrics
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""

_COMPOSE = """\
# TensorFlow Serving for the models of this folder:
#
#   docker compose --profile cpu up --detach
#   docker compose --profile gpu up --detach      for models exported with --portable
#
# A new version is served as soon as its folder appears, a new model as soon as models.config names it; nothing has to
# be started again. The ports are open to this machine alone: the server has no passwords. Put a proxy before it to
# let others in.

x-serving: &serving
  command:
    - --model_config_file=/models/models.config
    - --model_config_file_poll_wait_seconds=10
    - --file_system_poll_wait_seconds=2
    - --monitoring_config_file=/models/monitoring.config
    - --enable_batching=true
    - --batching_parameters_file=/models/batching.config
    - --enable_per_model_batching_parameters=true
    - --rest_api_timeout_in_ms=60000
  ports:
    - "127.0.0.1:${GRPC_PORT:-8500}:8500"
    - "127.0.0.1:${REST_PORT:-8501}:8501"
  volumes:
    # The folder and not its files: a file that is replaced by renaming would stay the old one in the container.
    - .:/models:ro
  healthcheck:
    test: ["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8501"]
    interval: 10s
    timeout: 3s
    start_period: 60s
  restart: unless-stopped

services:
  cpu:
    <<: *serving
    profiles: [cpu]
    image: tensorflow/serving:${TF_SERVING_VERSION:-2.19.1}

  gpu:
    <<: *serving
    profiles: [gpu]
    image: tensorflow/serving:${TF_SERVING_VERSION:-2.19.1}-gpu
    environment:
      TF_FORCE_GPU_ALLOW_GROWTH: "true"
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: 1
              capabilities: [gpu]
"""

# What `write_config` writes where it is missing.
FILES = {"compose.yaml": _COMPOSE, "batching.config": _BATCHING, "monitoring.config": _MONITORING}

_TOKEN = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}<>:;,\[\]]|[^\s{}<>:;,\[\]#"']+|["']""")


def write_config(directory: str | os.PathLike[str]) -> list[str]:
    """The folder of the models' folders to the files that TensorFlow Serving reads there.

    Writes compose.yaml, batching.config and monitoring.config where they are missing, and adds to models.config, see
    `update_models_config`. Nothing that is there is changed.

    Args:
        directory: such as savedmodels; made if needed.

    Returns:
        The list of the names of the files that were written.

    Raises:
        ValueError: if there is a models.config that can't be read.
    """
    directory = Path(directory).expanduser()
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in FILES.items():
        if not (directory / name).exists():
            write_whole(directory / name, text.encode())
            written.append(name)
    missing = not (directory / MODELS_CONFIG).exists()
    if update_models_config(directory) or missing:
        written.append(MODELS_CONFIG)
    return written


def update_models_config(directory: str | os.PathLike[str]) -> list[str]:
    """Adds the models in `directory` that its models.config doesn't name yet; a running server loads them.

    A model is a folder that holds a SavedModel in a folder with a number for its name. What the file says stays
    as it is, entries of models that aren't there too: TensorFlow Serving may know their folder by another path. The
    file is replaced in one step, so that a server never reads half of it.

    Returns:
        The list of names that were added. Without any, an existing file isn't touched.

    Raises:
        ValueError: if models.config can't be read; it stays as it is.
    """
    directory = Path(directory).expanduser()
    target = directory / MODELS_CONFIG
    try:
        text = target.read_text("utf-8") if target.exists() else ""
        names, end = _parse(text)
    except ValueError as error:
        raise ValueError(
            f"{target} {error}: it must be the text of a ModelServerConfig, such as 'model_config_list {{ }}'. It was "
            "left as it is; mend it, or move it away to have a new one written"
        ) from error
    added = [name for name in _models(directory) if name not in names]
    if not added and text:
        return []
    entries = "".join(_entry(name) for name in added)
    if end is None:
        text = f"{text}{_newline(text)}model_config_list {{\n{entries}}}\n"
    else:
        text = f"{text[:end]}{_newline(text[:end])}{entries}{text[end:]}"
    write_whole(target, text.encode())
    return added


def _models(directory):
    """Names of the folders that hold versions."""
    return sorted(
        folder.name
        for folder in directory.iterdir()
        if not folder.name.startswith(".") and any(_is_version(version) for version in _inside(folder))
    )


def _inside(folder):
    return folder.iterdir() if folder.is_dir() else ()


def _is_version(folder):
    return folder.name.isdecimal() and (folder / "saved_model.pb").is_file()


def _entry(name):
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    lines = [f'name: "{quoted}"', f'base_path: "{MOUNT}/{quoted}"', 'model_platform: "tensorflow"']
    return "  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def _newline(text):
    return "" if not text or text.endswith("\n") else "\n"


def _parse(text):
    """A ModelServerConfig's text to (names of its models, position of the brace that closes model_config_list).

    The position is None where there is no list. Raises ValueError, with what is wrong as a phrase.
    """
    names, end, path, field = set(), None, [], None
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] == "#":
            continue
        if token in ("{", "<"):
            path.append(field)
            field = None
        elif token in ("}", ">"):
            if not path:
                raise ValueError("closes a brace that was never opened")
            if path == ["model_config_list"]:
                end = match.start()
            path.pop()
        elif token in ('"', "'"):
            raise ValueError("has a quotation mark without its partner")
        elif token[0] in "\"'":
            if path[-2:] == ["model_config_list", "config"] and field == "name":
                names.add(re.sub(r"\\(.)", r"\1", token[1:-1]))
        elif token not in ":;,[]":
            if not path and token != "model_config_list":
                raise ValueError(f"has {token!r} where model_config_list was expected")
            field = token
    if path:
        raise ValueError("has a brace that is never closed")
    return names, end
