"""Programs whose output is a stranger's."""

import subprocess
import sys
import time

import pytest

from waportd.cli import bounded


def python(code, seconds=20):
    return bounded.run([sys.executable, "-c", code], seconds=seconds)


def test_both_outputs_and_the_status_are_reported():
    done = python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


@pytest.mark.parametrize("output", ["stdout", "stderr"])
def test_of_much_the_end_is_kept(output):
    done = python(
        f"import sys; [sys.{output}.write('x' * 2**20) for _ in range(50)]; sys.{output}.write('end')"
    )
    kept = getattr(done, output)
    assert len(kept) == bounded.MOST
    assert kept.endswith("xend")


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(60)",
        "while True: print('x' * 4096)",
        # Its child keeps the output open.
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])",
    ],
)
def test_one_without_an_end_is_ended_with_all_that_it_started(code):
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        python(code, seconds=1)
    assert time.monotonic() - began < 10


def test_what_is_not_there_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError):
        bounded.run([tmp_path / "program"], seconds=1)
