"""How every command runs: fast `--help`, and one line instead of a stack trace."""

import errno
import inspect
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable

from absl import flags, logging

from gen_jax.common import memory, paths
from gen_jax.common.errors import UserError

# What the operating system says when the fault is the place, not the program.
_PLACE_ERRORS = {
    errno.ENOSPC: "the disk is full; free some space or name a folder on another disk",
    errno.EDQUOT: "the disk quota is used up; free some space or name another folder",
    errno.EACCES: "permission denied; name a folder that you may write to",
    errno.EPERM: "not permitted; name a folder that you may write to",
    errno.EROFS: "the file system is read-only; name a folder that you may write to",
    errno.ENAMETOOLONG: "the name is too long for this file system; name a shorter one",
    errno.ENOTDIR: "part of this path is a file, not a folder; name another folder",
}


# What absl adds to the help of a flag that may be given several times.
_REPEATED = "; repeat this option to specify a list of values"


def place_error(error: OSError) -> UserError | None:
    """Puts an error of the file system into words, or returns None where it is something else."""
    reason = _PLACE_ERRORS.get(error.errno)
    if reason is None:
        return None
    return UserError(f"{error.filename or 'output'}: {reason}")


def run(main: Callable[[list[str]], int | None], positional: bool = False) -> None:
    """Parses the flags, runs `main` with what is left of the command line, and exits.

    Exit codes: 0 done, 2 a mistake of the user's (one line on standard error), 130 interrupted.
    Any other error keeps its stack trace, because it is ours to mend.

    Args:
      main: the door. It does its heavy imports inside, so that `--help` is quick.
      positional: whether it takes arguments that are no flags.
    """
    module = inspect.getmodule(main)
    _print_anything()
    if any(a.lstrip("-").split("=")[0] in ("help", "h", "helpfull") for a in sys.argv[1:]):
        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... --help | head` is no error
        _print_help(module)
        sys.exit(0)
    memory.keep_pages()
    try:
        name, *arguments = flags.FLAGS(sys.argv)
        if arguments and not positional:
            raise UserError(
                f"unexpected argument {arguments[0]!r}: values are given as --name=value, see "
                "--help"
            )
        _quiet_logs()
        sys.exit(main([name, *map(paths.expand, arguments)]) or 0)
    except UserError as error:
        _die(_with_dashes(str(error)))
    except flags.Error as error:
        _die(f"{error}; see --help")
    except OSError as error:
        known = place_error(error)
        if known is None:
            raise
        _die(str(known))
    except KeyboardInterrupt:
        _die("interrupted", code=130)


def _with_dashes(message: str) -> str:
    """Returns a message of library code, which names options, with flags as a user types them."""

    def dashed(match: re.Match) -> str:
        return f"{match[1]}--{match[2]}" if match[2] in flags.FLAGS else match[0]

    return re.sub(r"(^|\bset |\braise |\blower |\blarger )([a-z_]+)(?=[= :;,]|$)", dashed, message)


def command_line() -> str:
    """Returns the command that this process runs, as a user types it; "" if it is none of ours."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or not spec.name.startswith("gen_jax."):
        return ""
    return shlex.join(["python", "-m", spec.name, *sys.argv[1:]])


def _print_anything() -> None:
    """Lets names be printed that the console's encoding cannot hold, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _quiet_logs() -> None:
    logging.use_absl_handler()
    if not flags.FLAGS["verbosity"].present:
        # Libraries warn of what is none of the user's business; we print what is.
        logging.set_verbosity(logging.ERROR)


def _die(message: str, code: int = 2) -> None:
    sys.stdout.flush()
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    if code == 2 and "GEN_JAX_TRACEBACK" in os.environ:
        import traceback

        traceback.print_exc()
    sys.exit(code)


def _print_help(module) -> None:
    """Prints the door's docstring and its own flags."""
    print(inspect.cleandoc(module.__doc__ or "").strip())
    print("\nFlags:")
    name = module.__name__ if module.__name__ != "__main__" else sys.argv[0]
    key_flags = {f.name: f for f in flags.FLAGS.get_key_flags_for_module(name)}
    if module.__name__ == "__main__":
        key_flags |= {f.name: f for f in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
    for flag in sorted(key_flags.values(), key=lambda f: f.name):
        default = "" if flag.default in (None, "", []) else f" (default: {flag.default})"
        text = " ".join((flag.help or "").split()).replace(_REPEATED, " May be repeated.")
        print(f"  --{flag.name}: {text}{default}")
    print("\nSet GEN_JAX_TRACEBACK=1 to see the stack trace behind a one-line error.")
