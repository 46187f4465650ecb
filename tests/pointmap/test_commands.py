"""How commands end: exit code, one line, and the signals' handlers as they were."""

from __future__ import annotations

import signal

import pytest

from pointmap.commands import run_command
from pointmap.errors import InputError


def refuse() -> int:
    raise InputError("a.jpg: no photo")


def test_an_input_error_is_one_line_and_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: 5) == 5
    assert run_command(refuse) == 2
    assert capsys.readouterr().err == "error: a.jpg: no photo\n"


def test_a_missing_permission_is_one_line_wherever_it_is_met(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def look() -> int:
        raise PermissionError(13, "Permission denied", "locked/list.csv")

    assert run_command(look) == 2
    said = "error: no permission for locked/list.csv: change it, or choose another\n"
    assert capsys.readouterr().err == said


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no such signals")
def test_a_signal_interrupts_and_its_handler_is_put_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        # In the background of a shell SIGINT is ignored, and would stay so.
        before = signal.signal(number, signal.default_int_handler)

        def interrupted(number: int = number) -> int:
            signal.raise_signal(number)
            return 0

        try:
            assert run_command(interrupted, left=lambda: "a part was written") == 128 + number
            assert signal.getsignal(number) is signal.default_int_handler
        finally:
            signal.signal(number, before)
        assert capsys.readouterr().err == "interrupted: a part was written\n"


def test_any_other_error_is_a_fault_and_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)
