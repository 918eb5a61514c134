"""The command line: ``recjax data | embed | train | evaluate | recommend | plan``.

A wrong word costs one line on standard error and exit code 2; Ctrl-C and SIGTERM save
the run and leave.
"""

import contextlib
import difflib
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Generator, Sequence
from types import FrameType
from typing import Any, NoReturn

from recjax import __version__

USAGE = """\
usage: recjax COMMAND ... [--help]

  recjax data list                    sources that can be read by name
  recjax data prepare SOURCE          read, clean, split and store a dataset
  recjax data describe DATASET        what a dataset holds and how it was made
  recjax embed DATASET --encoder PATH add vectors of item texts to a dataset
  recjax train DATASET                train a model; DATASET may be a source
  recjax evaluate RUN                 metrics of a trained run
  recjax recommend RUN --user ID      a personalised list
  recjax plan DATASET                 memory and time that training would take

recjax COMMAND --help lists the options of a command.
"""
COMMANDS = ("data list", "data prepare", "data describe", "embed", "train")
COMMANDS += ("evaluate", "recommend", "plan")

_REMEDIES = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EROFS: "choose a folder that can be written (--out, RECJAX_DATA_DIR)",
    errno.EACCES: "change its permissions, or choose another file or folder",
    errno.EEXIST: "it is a file where a folder is needed; choose another",
    errno.ENOTDIR: "it is a file where a folder is needed; choose another",
}
_LONGEST = 1500


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command; the entry point of ``recjax``.

    Args:
      argv: the words after ``recjax``; None for those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # The absl logs of Orbax and TFDS would tear the progress bar apart.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without Unicode still shows titles, if not prettily.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            code = _dispatch(words)
        except SystemExit as stop:
            code = stop.code
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        # The reader of a pipe, such as head, has seen enough.
        _drop_output()
        code = 0
    except (ValueError, FloatingPointError) as error:
        fail(str(error))
    except OSError as error:
        _drop_output()
        said = f"{error.strerror or error}: {error.filename or 'on writing'}"
        if error.errno in _REMEDIES and error.strerror == os.strerror(error.errno):
            said += f"; {_REMEDIES[error.errno]}"
        fail(said)
    except KeyboardInterrupt:
        if argv is None:
            # Once more would only tear the way out.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("recjax: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help") or words == ["data"]:
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        print(f"recjax {__version__}")
        return 0
    size = 2 if words[0] == "data" else 1
    name, rest = " ".join(words[:size]), words[size:]
    if name in ("data -h", "data --help"):
        print(USAGE, end="")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? There are" if near else "there are"
        fail(f"no command {name!r}; {hint}: {', '.join(COMMANDS)}")
    with _leave_at_once():
        # Imports JAX and the rest: seconds that help and typing errors need not cost.
        from recjax import commands
    return commands.run(name, rest)


@contextlib.contextmanager
def _leave_at_once() -> Generator[None]:
    """Ends the process on Ctrl-C while there is nothing to save.

    Some of the libraries swallow a KeyboardInterrupt while they are imported.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        os.write(2, b"recjax: interrupted\n")
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _drop_output() -> None:
    """Gives up what the outputs cannot take, or Python would try again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def parse(command: type, default: Any, words: Sequence[str], name: str) -> Any:
    """Reads options into a dataclass by tyro, with its errors on one line.

    Args:
      command: the dataclass.
      default: an instance that supplies defaults; None for none.
      words: the options.
      name: the command, for help.

    Returns:
      An instance of the dataclass.
    """
    import tyro

    printed = io.StringIO()
    kwargs = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                command,
                prog=f"recjax {name}",
                args=list(words),
                config=(tyro.conf.AvoidSubcommands,),
                **kwargs,
            )
    except SystemExit as stop:
        if stop.code == 0:
            raise
        fail(one_line(printed.getvalue()) + f"; see recjax {name} --help")


def one_line(box: str) -> str:
    """The message in a box as tyro draws it, with the options it suggests.

    Args:
      box: several lines with a frame.

    Returns:
      One line.

    Examples:
      >>> lines = ["╭─ Bad ─╮", "│ no --epoch │", "│ ── │", "│ --epochs INT │", "╰──╯"]
      >>> one_line(chr(10).join(lines))
      'no --epoch (nearest: --epochs)'
    """
    lines = [line.strip("│ ").strip() for line in box.splitlines()]
    lines = [line for line in lines if line and line[0] not in "╭╰"]
    rule = next((n for n, line in enumerate(lines) if set(line) == {"─"}), len(lines))
    message = " ".join(lines[:rule])
    nearest = []
    for line in lines[rule:]:
        nearest += re.findall(r"^--[\w.-]+(?= |$)", line)
    nearest = [option for option in dict.fromkeys(nearest) if option not in message]
    return message + (f" (nearest: {', '.join(nearest[:3])})" if nearest else "")


def fail(message: str) -> NoReturn:
    """Ends the process with one line on standard error and exit code 2."""
    line = " ".join(message.split())
    # Of a long one, what is wrong stands in front and what to do about it at the end.
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} [...] {line[-_LONGEST // 2 :]}"
    # A binary file taken for a table must not drive the terminal.
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(f"recjax: {line}", file=sys.stderr)
    sys.exit(2)
