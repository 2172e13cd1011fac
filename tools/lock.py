"""Lock the file that the calling script has open as its descriptor 9: until that is closed, and no program that the
script has started has it open either. Waits, with the message in the argument, while another one has it locked."""

import fcntl
import signal
import sys

FILE = 9


def main() -> None:
    """Take the lock; where the file system knows none, say so and go on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the wait without a traceback
    try:
        try:
            fcntl.flock(FILE, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(sys.argv[1], flush=True)
            fcntl.flock(FILE, fcntl.LOCK_EX)
    except OSError as error:
        print(f"warning: no lock ({error}): run one command at a time", file=sys.stderr)


if __name__ == "__main__":
    main()
