"""The one place where exceptions become a message and an exit code."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from shardctl import __version__
from shardctl.cli import diagnostics, output
from shardctl.errors import ConfigError, ExitCode, ShardctlError


class Boundary(TyperGroup):
    """The command group, which never lets a traceback reach the user unless asked to."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and return its exit code."""
        with output.owned():
            code = self._run(args, prog_name, complete_var, **extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, args: Sequence[str] | None, prog_name: str | None, complete_var: str | None, **extra: Any) -> int:
        arguments = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        except ShardctlError as error:
            diagnostics.error(error)
            return error.exit_code
        except Abort:
            diagnostics.say("aborted: nothing was changed")
            return ExitCode.REFUSED
        except TyperException as error:
            return _usage(error, prog_name or "shardctl", arguments)
        except SystemExit as error:  # a module that was imported, or the pipe that Typer saw closed
            return error.code if isinstance(error.code, int) else ExitCode.FAILED
        except UnicodeEncodeError as error:
            return _no_text(error)
        except Exception as error:
            return _bug(error)
        if code == ExitCode.INTERRUPTED:
            diagnostics.say("interrupted")
        return int(code or 0)


def _no_text(error: UnicodeEncodeError) -> int:
    """Python stands surrogates for the bytes of an argument, or of standard input, that are not in its encoding."""
    found = re.search("[\udc80-\udcff]", error.object)
    if found is None and "utf" in error.encoding.lower():
        return _bug(error)
    if found is None:
        named = f"`{error.object[error.start]}` cannot be written in this locale's encoding, {error.encoding}"
        diagnostics.error(ConfigError(named, hint="set `PYTHONUTF8=1`, or a locale of UTF-8"))
        return ExitCode.USAGE
    diagnostics.error(ConfigError(f"the byte 0x{ord(found[0]) - 0xDC00:02x} in what was given is not UTF-8 text"))
    return ExitCode.USAGE


def _usage(error: TyperException, prog_name: str, arguments: Sequence[str]) -> int:
    context: typer.Context | None = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        print(context.get_help(), file=sys.stderr)
        return ExitCode.USAGE
    path = context.command_path if context is not None else " ".join([prog_name, *arguments[:1]])
    message, suggestion = _tidied(error.format_message())
    if re.fullmatch(r"no such option: `-\d.*`", message):
        suggestion = "put `--` before a negative number; "
    diagnostics.error(ShardctlError(message, hint=suggestion + f"`{path} --help` shows what it takes"))
    return ExitCode.USAGE


def _tidied(message: str) -> tuple[str, str]:
    """Bring Typer's words into the style of the other errors: the message, and the beginning of the hint."""
    message, _, nearest = re.sub(r"'([^']*)'", r"`\1`", message).rstrip(".").partition("Did you mean ")
    message, _, options = message.partition(" (Possible options: ")
    message = message.rstrip(" .").replace("Value error, ", "")
    message = re.sub(r"(?:^|(?<=: ))[A-Z](?=[a-z])", lambda first: first[0].lower(), message)
    message = re.sub(r"(?<=no such option: )(\S+)", r"`\1`", message)
    found = nearest.rstrip("?") or ", ".join(f"`{option}`" for option in options.rstrip(")").split(", ") if option)
    return message, f"did you mean {found}? " if found else ""


def _bug(error: Exception) -> int:
    if os.environ.get("SHARDCTL_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    diagnostics.error(
        ShardctlError(
            f"{type(error).__name__}: {error}",
            facts=[f"this is a bug in shardctl {__version__} (Python {platform.python_version()})"],
            hint="set `SHARDCTL_TRACEBACK=1`, run it again, and report what it prints",
        ),
        label="internal error",
    )
    return ExitCode.BUG
