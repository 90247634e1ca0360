"""What a script says and how it ends: errors, exit codes, logging, progress."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import gc
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from tqdm import tqdm

EXIT_OK, EXIT_BAD_DATA, EXIT_USAGE, EXIT_BLOCKED = 0, 1, 2, 75  # 75 is EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED, EXIT_BROKEN_PIPE, EXIT_TERMINATED = 130, 141, 143  # 128 + signal number
MARKDOWN = re.compile(r"[][\\`*{}<>&|~$#!:@]|(?<![^\W_])_|_(?![^\W_])")  # what has a meaning; "_" has none in a word
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# Its own lock is for several processes too, and stays behind when one ends at once: Python 3.14 warns of that.
tqdm.set_lock(threading.RLock())

logger = logging.getLogger("squadlib")  # one for the whole toolkit; setup_logging gives it the script's name


class SquadError(Exception):
    """Bad data or a bad environment: one sentence with the file, the place, what was found and what to do."""


def setup_logging(script: str, level: int = logging.INFO) -> None:
    """Log to stderr in the format of the 2020 script, with its name; stdout stays free for results."""
    logger.name = script
    logging.basicConfig(
        format="%(asctime)s - %(levelname)s - %(name)s - %(message)s",
        datefmt="%m/%d/%Y %H:%M:%S",
        level=level,
        stream=sys.stderr,
        force=True,
    )


def script_main(main: Callable[..., int]) -> Callable[..., int]:
    """Decorate a script's `main(argv) -> int`: errors become one line on stderr and the documented exit code.

    SIGTERM raises SystemExit(143), so that `finally` blocks and temporary files are cleaned up.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> int:
        _on_sigterm(_raise_terminated)
        try:
            try:
                code = main(argv)
                sys.stdout.flush()
                return code
            except BaseException:
                _on_sigterm(signal.SIG_IGN)  # the error's frames go with what they hold: nothing can leave a __del__
                raise
        except SquadError as error:
            logger.error("%s", error)
            return EXIT_BAD_DATA
        except KeyboardInterrupt:
            logger.error("stopped by Ctrl-C")
            return EXIT_INTERRUPTED
        except BrokenPipeError:  # `| head` closed our stdout
            flush_or_drop_stdout()
            return EXIT_BROKEN_PIPE
        except OSError as error:
            flush_or_drop_stdout()
            logger.error("%s", describe_os_error(error))
            return EXIT_BAD_DATA
        except (MemoryError, RecursionError) as error:
            logger.error("%s while working on the input: is the file what you think it is?", type(error).__name__)
            return EXIT_BAD_DATA
        finally:
            _on_sigterm(signal.SIG_DFL)

    return wrapper


def flush_or_drop_stdout() -> None:
    """What nobody takes goes nowhere: the interpreter must not try again at exit, and tell of it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _on_sigterm(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    with contextlib.suppress(ValueError):  # not in the main thread (tests)
        signal.signal(signal.SIGTERM, handler)


def _raise_terminated(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def describe_os_error(error: OSError, path: str | None = None) -> str:
    """One sentence for an OSError: the file, what happened, and for a full disk what to do."""
    name = path or error.filename or "output"
    if error.errno in NO_SPACE:
        return f"{name}: no space left for writing ({error.strerror}); free some and run the same command again"
    return f"{name}: {error.strerror or error}"


def exit_with_faults(parser: argparse.ArgumentParser, faults: list[str]) -> None:
    """Print every fault of the command line at once and exit 2; return when there is none."""
    if faults:
        parser.exit(EXIT_USAGE, "".join(f"{parser.prog}: error: {fault}\n" for fault in faults))


def progress_bar(**options: Any) -> tqdm:
    """A tqdm bar on stderr that stays quiet when stderr is not a terminal. Takes tqdm's arguments."""
    return tqdm(disable=not sys.stderr.isatty(), dynamic_ncols=True, **options)


def duration(seconds: float) -> str:
    """For people: "0.4 s", "45 s", "12 min", "5 h 50 min"."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def escape_markdown(text: str) -> str:
    """`text` on one line, which Markdown and HTML show as it is."""
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Of a GPU or of the CPU; torch and CTranslate2 tell it by their words alone."""
    return any(words in str(error) for words in ("out of memory", "can't allocate memory", "ALLOC_FAILED"))


@contextlib.contextmanager
def torch_errors_explained() -> Iterator[None]:
    """One sentence for the RuntimeErrors of torch that are not bugs: no memory, a GPU too old, a process that ended."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "no kernel image" in text:
            raise SquadError("this build of torch has no code for this GPU; the README says which one has") from error
        if is_out_of_memory(error):
            raise SquadError(
                f"memory ran out ({text.splitlines()[0][:200]}); lower --per_gpu_train_batch_size and raise "
                "--gradient_accumulation_steps by the same factor, or lower --per_gpu_eval_batch_size"
            ) from error
        if "gloo" in text or "NCCL" in text:
            raise SquadError("another process of this run ended; its own message says why") from error
        raise


@contextlib.contextmanager
def garbage_collector_off() -> Iterator[None]:
    """For imports and loading: what they make stays, and looking for garbage in it takes a sixth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Call `main` and end the process without taking its modules down one by one, a second where torch is loaded."""
    try:
        code = main()
    except SystemExit as end:  # the parser's, or the one after a signal
        code = end.code if isinstance(end.code, int) else EXIT_OK
    logging.shutdown()
    flush_or_drop_stdout()
    sys.stderr.flush()
    os._exit(code)
