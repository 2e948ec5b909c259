"""The command line as a process: pipes, exit codes, Ctrl-C, and how fast help answers."""

from __future__ import annotations

import io
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

from overpaint import __version__
from tests.apps.conftest import SIZE, command


def test_the_version(overpaint_process):
    ran = overpaint_process("--version")
    assert (ran.code, ran.out.decode()) == (0, f"overpaint {__version__}\n")


def test_stdin_to_stdout(overpaint_process, desk):
    ran = overpaint_process(
        "erase", "-", "--mask", "mask.png", stdin=(desk / "photo.png").read_bytes()
    )
    assert ran.code == 0, ran.err
    with Image.open(io.BytesIO(ran.out)) as image:
        assert (image.format, image.size) == ("PNG", SIZE)


TWICE = """
import sys
from overpaint.apps.cli import main
for _ in range(2):
    try:
        main()
    except SystemExit as ended:
        assert not ended.code
    sys.argv.append("--json")
"""


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_code_page_that_has_not_all_letters(desk, encoding):
    name = "\N{KITE}\N{HIRAGANA LETTER A}.png"
    ran = subprocess.run(
        [sys.executable, "-c", TWICE, "erase", "photo.png", "--mask", "mask.png", "-o", name],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    plain, told = ran.stdout.split("\n", 1)
    assert plain.endswith(".png")
    assert json.loads(told)["outputs"] == [name]


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), ("-o - >&-", 2)])
def test_streams_that_are_closed(desk, closed, code):
    words = " ".join(map(shlex.quote, command("erase", "photo.png", "--mask", "mask.png")))
    ran = subprocess.run(
        ["sh", "-c", f"{words} --force {closed}"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert (desk / "photo-edited.png").is_file() is (code == 0)
    assert ("the standard output is closed" in ran.stderr) is (code == 2)


def test_exit_code_2_for_the_input(overpaint_process):
    ran = overpaint_process("erase", "nowhere.png", "--mask", "mask.png")
    assert ran.code == 2
    assert ran.err.startswith("Error: image: ")
    assert ran.err.count("\n") == 1


def test_a_model_loads_without_noise(overpaint_process, checkpoint_folder):
    ran = overpaint_process(
        "inpaint", "photo.png", "a kite", "--mask", "mask.png", "--model", checkpoint_folder("sd2"),
        "--dtype", "float32", "-O", "num_inference_steps=1", "--seed", 1,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.out == b"photo-edited.png\n"
    assert ran.err.startswith("seed 1, ")
    assert ran.err.count("\n") == 1


ERASE = ("erase", "photo.png", "--mask", "mask.png")
TWIN = ("inpaint", "photo.png", "a red circle", "--mask", "mask.png", "--model", "tiny-sd2")

HEARING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run behind an &
"""

SLOW_STEPS = (
    HEARING
    + """
import pathlib, time
from overpaint.diffusion.denoiser import Denoiser

advance = Denoiser.advance

def slow(family, group):
    pathlib.Path("MARKER").touch()
    time.sleep(0.5)
    advance(family, group)

Denoiser.advance = slow
from overpaint.apps.cli import main
main()
"""
)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_in_mid_run(desk, tmp_path, checkpoint_folder, presses):
    stepping = tmp_path / "stepping"
    before = sorted(desk.iterdir())
    with started(
        sys.executable, "-c", SLOW_STEPS.replace("MARKER", str(stepping)),
        "inpaint", "photo.png", "a kite", "--mask", "mask.png",
        "--model", str(checkpoint_folder("sd2")), "--dtype", "float32",
    ) as process:  # fmt: skip
        _wait(process, stepping.exists)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        out, err = process.communicate(timeout=120)

    assert process.returncode == 130
    assert (out, err) == (b"", b"Cancelled.\n")
    assert sorted(desk.iterdir()) == before


def test_ctrl_c_at_the_start(desk, tmp_path):
    listening = tmp_path / "listening"
    script = HEARING + LISTENING.replace("MARKER", str(listening)) + START
    with started(sys.executable, "-c", script, *ERASE) as process:
        _wait(process, listening.exists)  # the commands are being imported
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == b"Cancelled.\n"


LISTENING = """
import pathlib
from overpaint.apps.cli import interrupt

listen = interrupt.listen

def listening():
    listen()
    pathlib.Path("MARKER").touch()

interrupt.listen = listening
"""

START = """
from overpaint.apps.cli import main
main()
"""

PRESS = """
import os

def press():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # where Python looks for signals
        pass
"""

SWALLOWING_IMPORT = """
import builtins

importing = builtins.__import__

def swallowing(name, *rest, **more):
    if name == "MODULE":
        builtins.__import__ = importing
        try:
            press()
        except BaseException:
            pass
    return importing(name, *rest, **more)

builtins.__import__ = swallowing
"""

PRESSED_IN_A_DESTRUCTOR = """
import overpaint.core.imaging.images as images

class Dying:
    def __del__(self):
        press()

decode = images.decode

def dying(*given, **more):
    Dying()
    return decode(*given, **more)

images.decode = dying
"""

PRESSED_WHERE = """
import MODULE as module

function = module.FUNCTION

def pressed(*given, **more):
    press()
    return function(*given, **more)

module.FUNCTION = pressed
"""


def pressed_in(module: str, function: str) -> str:
    """Ctrl-C when the function is called."""
    return PRESSED_WHERE.replace("MODULE", module).replace("FUNCTION", function)


PRESSED_AFTER_THE_LAST_STEP = pressed_in("overpaint.core.imaging.images", "encode")
PRESSED_TOO_LATE = pressed_in("overpaint.core.files", "atomic_write")
PRESSED_ON_THE_WAY_OUT = """
import atexit
atexit.register(press)
"""


@pytest.mark.parametrize(
    ("module", "command"),
    [("typer", ERASE), ("overpaint.families.erase.exemplar", ERASE), ("torch", TWIN)],
)
def test_ctrl_c_that_an_import_swallows(desk, module, command):
    code, out, err = _ran(SWALLOWING_IMPORT.replace("MODULE", module), *command)
    assert (code, out, err) == (130, b"", b"Cancelled.\n")
    assert not (desk / "photo-edited.png").exists()


def test_ctrl_c_that_an_import_swallows_before_help(desk):
    code, _, err = _ran(SWALLOWING_IMPORT.replace("MODULE", "rich.panel"), "--help")
    assert (code, err) == (130, b"Cancelled.\n")


def test_ctrl_c_in_a_destructor(desk):
    code, out, err = _ran(PRESSED_IN_A_DESTRUCTOR, *ERASE)
    assert (code, out) == (130, b"")
    assert b"Exception ignored in" in err  # by Python itself
    assert err.endswith(b"Cancelled.\n")
    assert not (desk / "photo-edited.png").exists()


def test_ctrl_c_after_the_last_step(desk):
    assert _ran(PRESSED_AFTER_THE_LAST_STEP, *ERASE) == (130, b"", b"Cancelled.\n")
    assert not (desk / "photo-edited.png").exists()


@pytest.mark.parametrize("late", [PRESSED_TOO_LATE, PRESSED_ON_THE_WAY_OUT])
def test_ctrl_c_that_comes_too_late(desk, late):
    code, out, err = _ran(late, *ERASE, "--seed", "1")
    assert (code, out) == (0, b"photo-edited.png\n")
    assert err.startswith(b"seed 1, ")
    assert err.count(b"\n") == 1
    assert (desk / "photo-edited.png").exists()


def test_ctrl_c_where_it_is_ignored(desk):
    """`nohup overpaint …`, and `overpaint … &` in a script."""
    ignoring = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    swallowing = SWALLOWING_IMPORT.replace("MODULE", "typer")
    code, out, _ = _ran(ignoring + swallowing + PRESSED_TOO_LATE, *ERASE)
    assert (code, out) == (0, b"photo-edited.png\n")


def _ran(prepared: str, *arguments: str) -> tuple[int, bytes, bytes]:
    """A command after these lines, which may `press()` Ctrl-C."""
    done = subprocess.run(
        [sys.executable, "-c", HEARING + PRESS + prepared + START, *arguments],
        capture_output=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_help_answers_at_once(desk):
    """Processor time, which other programs do not lengthen; the promise is 0.5 s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(3):
        subprocess.run(command("--help"), check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent / 3 < 1.0


@pytest.mark.parametrize("statement", ["import overpaint", "import overpaint.apps.cli"])
def test_heavy_modules_are_imported_late(statement):
    heavy = "{'torch', 'diffusers', 'transformers', 'cv2', 'scipy', 'numpy', 'huggingface_hub'}"
    check = f"import sys; {statement}; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=False)
    assert done.stderr.strip() == b""


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive its test."""
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.02)
