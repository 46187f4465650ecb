"""How a command ends: with its exit code, and one line for whatever the user can mend."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pointmap.errors import InputError
from pointmap.lossy_streams import lossy_streams

EXIT_INPUT_ERROR = 2

# Numbers of the signals that came to end the command.
_interrupts: list[int] = []


def to_stderr(kind: str, message: str) -> None:
    """Write a last line to the standard error stream."""
    sys.stderr.write(f"{kind}: {message}\n")


def run_command(
    run: Callable[[], int],
    *,
    say: Callable[[str, str], None] = to_stderr,
    left: Callable[[], str] = lambda: "nothing was written",
) -> int:
    """Return the exit code of ``run()``, or 2 after an ``InputError``, whose line is said, or where
    a permission is missing.

    128 + the signal's number after SIGINT, SIGTERM or SIGHUP, all of which raise
    ``KeyboardInterrupt``, so that what is unfinished is removed; it is said what was ``left``. An
    output stream that is full, or that nobody reads, ends nothing.
    """
    _interrupts.clear()
    with lossy_streams(), _signals_interrupt():
        try:
            return run()
        except InputError as error:
            say("error", str(error))
            return EXIT_INPUT_ERROR
        except PermissionError as error:
            # Nobody but the user can mend that, wherever it was met.
            path = error.filename
            say("error", str(InputError(f"no permission for {path}: change it, or choose another")))
            return EXIT_INPUT_ERROR
        except KeyboardInterrupt:
            pass
        except Exception:
            # A library in C that is interrupted, most often in its import, makes an error of it.
            if not interrupted():
                raise
        say("interrupted", left())
        return 128 + (_interrupts[0] if _interrupts else signal.SIGINT)


def interrupted() -> bool:
    """Return whether a signal has come that ends the command that runs."""
    return bool(_interrupts)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    before = end_as_on_ctrl_c("SIGINT", "SIGTERM", "SIGHUP")
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_as_on_ctrl_c(*names: str) -> dict[int, Any]:
    """Have signals raise ``KeyboardInterrupt``; return what was done about them until now."""
    before: dict[int, Any] = {}
    for name in names:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # nohup has it ignored, and so it stays; None is one that is not Python's.
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, _raise_interrupt)
    return before


def _raise_interrupt(number: int, frame: object) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt
