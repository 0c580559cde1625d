"""What the configuration files say to TensorFlow Serving, and that models.config only ever grows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keras_deeplab.serving import config
from keras_deeplab.serving.config import FILES, update_models_config, write_config

ROOT = Path(__file__).resolve().parents[1]
# Of tensorflow_model_server, as its main.cc declares them.
FLAGS = {
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "file_system_poll_wait_seconds",
    "monitoring_config_file",
    "enable_batching",
    "batching_parameters_file",
    "enable_per_model_batching_parameters",
    "rest_api_timeout_in_ms",
}


def model(root, name, version=1):
    folder = root / name / str(version)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    return folder


def named(root):
    return re.findall(r'name: "(.*)"', (root / "models.config").read_text("utf-8"))


def message(name, wrappers=(), plain=()):
    """An empty protocol buffer with the given fields; TensorFlow Serving's package lacks some of its own messages."""
    descriptors = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory, wrappers_pb2

    file = descriptors.FileDescriptorProto(name=f"{name}.proto", package="t", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    entry = file.message_type.add(name=name)
    kinds = descriptors.FieldDescriptorProto
    for number, (field, kind) in enumerate([*wrappers, *plain], 1):
        if isinstance(kind, str):
            entry.field.add(name=field, number=number, label=1, type=kinds.TYPE_MESSAGE, type_name=kind)
        else:
            entry.field.add(name=field, number=number, label=1, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}"))()


def batching_parameters(text):
    from google.protobuf import text_format

    number, flag, string = (f".google.protobuf.{kind}Value" for kind in ("Int64", "Bool", "String"))
    fields = [
        ("max_batch_size", number),
        ("batch_timeout_micros", number),
        ("max_enqueued_batches", number),
        ("num_batch_threads", number),
        ("thread_pool_name", string),
        ("enable_large_batch_splitting", flag),
        ("max_execution_batch_size", number),
    ]
    return text_format.Parse(text, message("BatchingParameters", fields))


def test_everything_is_written_once_and_then_left_alone(tmp_path):
    root = tmp_path / "savedmodels"
    model(tmp_path / "savedmodels", "voc")
    assert write_config(root) == [*FILES, "models.config"]
    (root / "compose.yaml").write_text("services: {}\n")
    before = {entry.name: entry.read_bytes() for entry in root.iterdir() if entry.is_file()}
    assert write_config(root) == []
    assert {entry.name: entry.read_bytes() for entry in root.iterdir() if entry.is_file()} == before
    assert sorted(entry.name for entry in root.iterdir()) == sorted(["voc", *before])


def test_only_folders_with_versions_are_models(tmp_path):
    for name, version in (("b", 1), ("a", 12), (".hidden", 1), ("wörter und mehr", 1), ("draft", "new")):
        model(tmp_path, name, version)
    (tmp_path / "empty" / "1").mkdir(parents=True)
    (tmp_path / "note.txt").write_text("1")
    assert update_models_config(tmp_path) == ["a", "b", "wörter und mehr"]
    assert named(tmp_path) == ["a", "b", "wörter und mehr"]


def test_what_a_user_wrote_stays_byte_for_byte(tmp_path):
    mine = """\
# mine { "
model_config_list: <
  config { base_path: "bikes", name: 'voc'  # name: "cars"
    model_version_policy { specific { versions: [3, 4] } }
    version_labels { key: "name: \\"bikes\\"" value: 4 } }
  config < name: "gone" base_path: "/models/gone" model_platform: "tensorflow" >
> # the end
"""
    (tmp_path / "models.config").write_text(mine)
    for name in ("voc", "cars", "bikes"):
        model(tmp_path, name)
    assert update_models_config(tmp_path) == ["bikes", "cars"]
    text = (tmp_path / "models.config").read_text()
    start, end = mine.split("> # the end")
    assert text.startswith(start)
    assert text.endswith("> # the end" + end)
    assert update_models_config(tmp_path) == []
    assert (tmp_path / "models.config").read_text() == text
    served = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    parsed = text_format.Parse(text, served.ModelServerConfig()).model_config_list.config
    assert [one.name for one in parsed] == ["voc", "gone", "bikes", "cars"]
    assert list(parsed[0].model_version_policy.specific.versions) == [3, 4]


def test_tensorflow_serving_reads_models_config(tmp_path):
    served = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    for name in ("voc", 'odd "name\\'):
        model(tmp_path, name)
    update_models_config(tmp_path)
    parsed = text_format.Parse((tmp_path / "models.config").read_text("utf-8"), served.ModelServerConfig())
    entries = parsed.model_config_list.config
    assert [(one.name, one.base_path, one.model_platform) for one in entries] == [
        (name, f"/models/{name}", "tensorflow") for name in ('odd "name\\', "voc")
    ]
    assert update_models_config(tmp_path) == []


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "model_config_list {}", "model_config_list {\n}\n"])
def test_lists_without_models_take_one(tmp_path, text):
    (tmp_path / "models.config").write_text(text)
    model(tmp_path, "voc")
    assert update_models_config(tmp_path) == ["voc"]
    assert named(tmp_path) == ["voc"]
    assert update_models_config(tmp_path) == []


def test_a_folder_without_models_gets_an_empty_list(tmp_path):
    assert write_config(tmp_path) == [*FILES, "models.config"]
    assert write_config(tmp_path) == []
    assert named(tmp_path) == []
    model(tmp_path, "voc")
    assert update_models_config(tmp_path) == ["voc"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model_config_list { config {", "a brace that is never closed"),
        ("model_config_list { } }", "closes a brace that was never opened"),
        ('model_config_list { config { name: "voc } }', "a quotation mark without its partner"),
        ("custom_model_config { }", "has 'custom_model_config' where model_config_list was expected"),
    ],
)
def test_a_file_that_cannot_be_read_is_left_as_it_is(tmp_path, text, complaint):
    (tmp_path / "models.config").write_text(text)
    model(tmp_path, "voc")
    with pytest.raises(ValueError, match=rf"models.config (has )?{complaint}.*left as it is"):
        update_models_config(tmp_path)
    assert (tmp_path / "models.config").read_text() == text


def test_the_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    model(tmp_path, "voc")
    update_models_config(tmp_path)
    before = (tmp_path / "models.config").read_bytes()
    model(tmp_path, "cars")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        update_models_config(tmp_path)
    assert (tmp_path / "models.config").read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cars", "models.config", "voc"]


def test_batching_parameters_are_tensorflow_servings():
    parsed = batching_parameters(FILES["batching.config"])
    assert parsed.num_batch_threads.value == 2
    assert parsed.thread_pool_name.value
    # Without limits here: --enable_per_model_batching_parameters ignores them.
    assert not parsed.HasField("max_batch_size")


def test_the_parameters_of_one_model_are_tensorflow_servings():
    from keras_deeplab.export import saved_model

    parsed = batching_parameters(saved_model._BATCHING.format(size=6))
    assert parsed.max_batch_size.value == parsed.max_execution_batch_size.value == 6
    assert parsed.enable_large_batch_splitting.value
    assert parsed.batch_timeout_micros.value > 0


def test_monitoring_is_tensorflow_servings():
    inner = re.fullmatch(r"\s*prometheus_config \{(.*)\}\s*", re.sub("#.*", "", FILES["monitoring.config"]), re.DOTALL)
    from google.protobuf import text_format

    parsed = text_format.Parse(inner[1], message("PrometheusConfig", plain=[("enable", 8), ("path", 9)]))
    assert parsed.enable
    assert parsed.path == "/monitoring/prometheus/metrics"


def test_compose_starts_a_server_that_reads_the_files():
    flags = dict(re.findall(r"- --(\w+)=(\S+)", FILES["compose.yaml"]))
    assert set(flags) == FLAGS
    inside = {path.removeprefix(f"{config.MOUNT}/") for path in flags.values() if path.startswith(config.MOUNT)}
    assert inside == {"models.config", "monitoring.config", "batching.config"}
    assert int(flags["model_config_file_poll_wait_seconds"]) > 0
    assert int(flags["file_system_poll_wait_seconds"]) > 0


def test_compose_is_yaml_of_a_cpu_and_a_gpu_service():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load(FILES["compose.yaml"])["services"]
    assert set(services) == {"cpu", "gpu"}
    for name, service in services.items():
        assert service["profiles"] == [name]
        assert service["volumes"] == [".:/models:ro"]
        assert [port.rsplit(":", 1)[1] for port in service["ports"]] == ["8500", "8501"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["image"].endswith("-gpu") == (name == "gpu")
    (device,) = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_the_repositorys_own_folder_has_the_same_files():
    for name, text in FILES.items():
        assert (ROOT / "savedmodels" / name).read_text("utf-8") == text


def test_it_imports_nothing_heavy():
    code = (
        "import sys\nfrom keras_deeplab.serving import config\n"
        "assert not {'tensorflow', 'keras', 'grpc', 'cv2'} & set(sys.modules), set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
