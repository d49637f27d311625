"""How the program ends early: a mistake of the user's, or a signal; one line on the screen, and an exit status."""

import signal
import textwrap
from types import FrameType

MOST_LETTERS = 80  # of what was got, in a message


class UserError(Exception):
    """An error that the user can fix; the message names the file, key or flag, what was expected and what was got.

    Attributes:
        exit_status: The program's exit status: 2 for a mistake, 3 for a signal.
    """

    def __init__(self, message: str, *, exit_status: int = 2):
        super().__init__(message)
        self.exit_status = exit_status


def short(value: object) -> str:
    """A shortened repr, for messages."""
    text = repr(value)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."


def in_one_line(error: BaseException) -> str:
    """An error's message without line breaks, not too long; the name of its class if it has no message."""
    return textwrap.shorten(str(error) or type(error).__name__, 4 * MOST_LETTERS, placeholder="...")


class StopSignal:
    """Ctrl-C and the signals of schedulers, so that a caller can save its work before it stops.

    Before ``defer`` a signal raises KeyboardInterrupt. After it a signal only sets ``received``, except that a second
    SIGINT (the user presses Ctrl-C again) ends the process at once.
    """

    def __init__(self) -> None:
        self.received = False
        self.deferred = False
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):  # the last: CPU time is up
            number = getattr(signal, name, None)  # Windows has only the first two
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._receive)

    def defer(self) -> None:
        """From now on only note signals."""
        self.deferred = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if not self.deferred:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
