"""Paths that a user writes: flags that hold one, and `~` for a home folder."""

import os
import pathlib
import re
from typing import Any

from absl import flags

from gen_jax.common.errors import UserError

# The flags belong to the command that defines them, whose --help lists them.
flags.disclaim_key_flags()

# At the beginning, and after a colon or comma, as in NAME:~/a.safetensors,~/b.safetensors.
_TILDE = re.compile(r"(?:^|(?<=[:,]))~[^/:,]*(?=[/:,]|$)")


def expand(text: str) -> str:
    """Replaces `~` and `~user` by the home folder, as a shell does in front of a word.

    A shell leaves `out=~/x` alone, so without this a folder called `~` would be made.

    Args:
      text: A path, or a name and a path with a colon between.

    Raises:
      UserError: There is no such user, or no home folder is known, and no file has that name.
    """
    return _TILDE.sub(lambda match: _home(match[0], text), text)


def _home(tilde: str, text: str) -> str:
    folder = os.path.expanduser(tilde)
    if folder != tilde:
        return folder
    if tilde != "~" and os.path.lexists(text):  # a file whose name begins with a tilde
        return tilde
    reason = "HOME is not set" if tilde == "~" else f"there is no user {tilde[1:]!r} here"
    raise UserError(f"{text}: {reason}; write the whole path, or ./{tilde} for a file of that name")


def user_folder() -> pathlib.Path | None:
    """Returns the user's home folder, or None if none is known (a container with a bare user)."""
    folder = os.path.expanduser("~")
    return None if folder == "~" else pathlib.Path(folder)


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path; ~ is the home folder"

    def parse(self, argument: str) -> str:
        return expand(argument)

    def flag_type(self) -> str:
        return "path"


def DEFINE_path(name: str, default: str | None, help: str, **options: Any) -> flags.FlagHolder:
    """Declares a flag that holds a path, in which `~` is expanded.

    Args:
      name: Name of the flag.
      default: Its value if it is not given.
      help: What `--help` says of it.
      **options: As `absl.flags.DEFINE` takes them.
    """
    return flags.DEFINE(
        _PathParser(), name, default, help, serializer=flags.ArgumentSerializer(), **options
    )


def DEFINE_multi_path(
    name: str, default: list[str] | None, help: str, **options: Any
) -> flags.FlagHolder:
    """Declares a flag that may be given several times, each time with a path."""
    return flags.DEFINE_multi(
        _PathParser(), flags.ArgumentSerializer(), name, default, help, **options
    )
