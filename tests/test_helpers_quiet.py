"""TensorFlow's start-up noise stays away from the command line, and what is no noise does not."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import keras_deeplab

QUIET = "from keras_deeplab._helpers.quiet import quiet_tensorflow\nquiet_tensorflow()\n"
NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795702863.954238    7709 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU ...",
    "E0000 00:00:1795702870.881840    7709 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed",
    "E0000 00:00:1795702870.881840    7709 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting to ...",
    "W0000 00:00:1795702870.881840    7709 computation_placer.cc:177] computation placer already registered.",
    "2026-11-26 14:21:02.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on. You may see",
    "2026-11-26 14:21:02.123456: E external/xla/stream_executor/cuda/cuda_driver.cc:152] failed call to cuInit",
    "I0000 00:00:1795702864.073721    7709 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use ...",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate",
]
TOLD = [
    "E0000 00:00:1795702870.881840    7709 gpu_device.cc:1] out of memory",
    "2026-11-26 14:21:02.123456: F tensorflow/core/platform/cpu_feature_guard.cc:40] needs instructions AVX",
    "UserWarning: I0000 is a strange name",
]


def run(code, folder=None, **environment):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [folder and str(folder), *sys.path]))} | {
        name: value for name, value in environment.items() if value is not None
    }
    for name in [name for name, value in environment.items() if value == ""]:
        del environment[name]
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False, env=environment
    )


@pytest.fixture
def fake(tmp_path):
    """Makes a package `tensorflow` that prints noise and more, then does what it is told; the folder that it is in."""

    def make(then="pass", devices="say(NOISE); os.write(2, b'no end of line')"):
        (tmp_path / "tensorflow.py").write_text(
            textwrap.dedent(
                f"""
                import os, types
                NOISE, TOLD = {NOISE!r}, {TOLD!r}
                def say(lines):
                    os.write(2, "\\n".join(lines).encode() + b"\\n")
                say(NOISE)
                say(TOLD)
                def list_physical_devices():
                    {devices}
                config = types.SimpleNamespace(list_physical_devices=list_physical_devices)
                {then}
                """
            )
        )
        return tmp_path

    return make


def test_noise_is_held_back_and_all_else_is_told_in_order(fake):
    code = QUIET + "import sys, tensorflow\nprint('mine', file=sys.stderr)\ntensorflow.say(tensorflow.NOISE[:1])"
    result = run(code, fake(), TF_CPP_MIN_LOG_LEVEL="")
    assert result.returncode == 0, result.stderr
    # Only the import is filtered: a later line goes its usual way.
    assert result.stderr.splitlines() == [*TOLD, "no end of linemine", NOISE[0]]


def test_an_import_that_fails_is_told(fake):
    result = run(QUIET + "import tensorflow", fake("raise ImportError('libcudart.so is missing')"))
    assert result.returncode == 1
    assert "ImportError: libcudart.so is missing" in result.stderr
    assert TOLD[1] in result.stderr
    assert NOISE[1] not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_library_that_ends_the_program_is_heard(fake):
    result = run(QUIET + "import tensorflow", fake("os.abort()"))
    assert result.returncode == -6
    assert result.stderr.splitlines() == TOLD


def test_devices_that_cannot_be_listed_do_not_fail_the_import(fake):
    result = run(QUIET + "import tensorflow; print('imported')", fake(devices="raise RuntimeError('no driver')"))
    assert result.stdout == "imported\n"
    assert "no driver" not in result.stderr


@pytest.mark.parametrize("level", ["0", "1"])
def test_who_asks_for_the_log_gets_it(fake, level):
    result = run(QUIET + "import tensorflow", fake(), TF_CPP_MIN_LOG_LEVEL=level)
    assert result.stderr.splitlines() == [*NOISE, *TOLD]


def test_the_user_s_level_is_kept_and_else_it_is_errors_only(fake):
    code = QUIET + "import os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    assert run(code, TF_CPP_MIN_LOG_LEVEL="3").stdout == "3\n"
    assert run(code, TF_CPP_MIN_LOG_LEVEL="").stdout == "2\n"


def test_nothing_is_imported_or_started_before_tensorflow_is():
    code = "import sys\n" + QUIET + "print(*{'tensorflow', 'keras', 'numpy'} & set(sys.modules))"
    assert run(code).stdout == "\n"


def test_it_works_without_standard_error(tmp_path):
    (tmp_path / "tensorflow.py").write_text("")
    result = run("import os; os.close(2)\n" + QUIET + "import tensorflow; print('imported')", tmp_path)
    assert result.stdout == "imported\n"


def test_a_library_s_user_is_left_alone(fake):
    code = "import os, keras_deeplab, tensorflow\nprint(os.environ.get('TF_CPP_MIN_LOG_LEVEL'))"
    result = run(code, fake(), TF_CPP_MIN_LOG_LEVEL="")
    assert result.stderr.splitlines() == [*NOISE, *TOLD]
    assert result.stdout == "None\n"


@pytest.mark.slow
def test_tensorflow_itself_starts_in_silence():
    code = "import keras_deeplab\n" + QUIET + "import keras, tensorflow as tf\nprint(int(tf.constant(1) + 1))"
    result = run(code, TF_CPP_MIN_LOG_LEVEL="")
    assert result.stdout == "2\n"
    assert result.stderr == ""


def test_the_helper_process_needs_nothing_of_the_package():
    file = Path(keras_deeplab.__file__).parent / "_helpers" / "quiet.py"
    lines = "\n".join([*NOISE, *TOLD]).encode()
    result = subprocess.run([sys.executable, "-I", "-S", str(file)], input=lines, capture_output=True, check=True)
    assert result.stderr.decode().splitlines() == TOLD


@pytest.mark.slow
def test_a_command_tells_its_error_and_nothing_of_tensorflow():
    code = "import sys\nfrom keras_deeplab.cli import main\nsys.exit(main(['evaluate', 'absent.keras', 'synthetic']))"
    result = run(code, TF_CPP_MIN_LOG_LEVEL="")
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["keras-deeplab evaluate"]
