"""How a script ends and what it says."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from squadlib.console import (
    SquadError,
    describe_os_error,
    duration,
    escape_markdown,
    progress_bar,
    torch_errors_explained,
)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", "lower --per_gpu_train_batch_size and raise --grad"),
        ("[gloo/transport/tcp/pair.cc:547] Connection closed by peer", "another process of this run ended"),
    ],
)
def test_errors_of_torch_that_are_no_bugs_are_one_sentence(error, sentence):
    with pytest.raises(SquadError, match=sentence), torch_errors_explained():
        raise RuntimeError(error)


SCRIPT = """
import sys
import threading
from squadlib.console import SquadError, logger, script_main, setup_logging

@script_main
def main(argv=None):
    setup_logging("my_script")
    raise {error}

sys.exit(main([]))
"""


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        ("SquadError('dev.json: bad')", 1, "ERROR - my_script - dev.json: bad"),
        ("KeyboardInterrupt", 130, "ERROR - my_script - stopped by Ctrl-C"),
        ("FileNotFoundError(2, 'No such file', 'x')", 1, "ERROR - my_script - x: No such file"),
        ("OSError(28, 'full', 'out')", 1, "out: no space left for writing (full); free some and run the same command"),
        ("MemoryError", 1, "MemoryError while working on the input: is the file what you think it is?"),
    ],
)
def test_errors_are_one_line_with_the_scripts_name_and_a_code(error, code, sentence):
    script = SCRIPT.format(error=error)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1


def test_other_exceptions_are_bugs_and_keep_their_traceback():
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(error="KeyError")], cwd=ROOT, capture_output=True)
    assert done.returncode == 1 and b"Traceback" in done.stderr


def test_durations_are_for_people():
    seconds = (0.44, 9.96, 45, 89.4, 90, 720, 3599, 21000)
    assert [duration(s) for s in seconds] == [
        *("0.4 s", "10.0 s", "45 s", "89 s", "2 min", "12 min", "1 h 00 min", "5 h 50 min")
    ]


def test_full_disk_is_told_in_every_form_that_systems_have():
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        assert describe_os_error(OSError(number, "why"), "a").startswith("a: no space left for writing (why)")


def test_markdown_in_a_text_is_escaped_but_snake_case_stays():
    assert escape_markdown("a_b *c*\n_d_") == "a_b &#42;c&#42; &#95;d&#95;"


def test_progress_bars_leave_no_semaphore_behind_a_process_that_ends_at_once():
    """Python 3.14 warned of one at the end of each run: tqdm's own lock is for several processes too."""
    assert isinstance(progress_bar().get_lock(), type(threading.RLock()))
