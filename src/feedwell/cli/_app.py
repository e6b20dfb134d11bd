"""The `feedwell` command: finds the others by their files, so that `--help` imports none of them."""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from feedwell import __version__
from feedwell.core.errors import FeedwellError

_UsageError: Any = typer.BadParameter.__base__  # click's, which typer may carry inside itself
_FOLDER = Path(__file__).parent
_ORDER = (
    "init demo check ingest features train evaluate publish rollback serve recommend explain simulate forget doctor "
    "bench"
)


class LazyGroup(TyperGroup):
    """Commands by file name: those of `_ORDER` first, then any other."""

    def list_commands(self, ctx: Any) -> list[str]:
        found = {path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_")}
        return [name for name in _ORDER.split() if name in found] + sorted(found - set(_ORDER.split()))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"feedwell.cli.{cmd_name}")
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False, rich_markup_mode=None)
            app.command(cmd_name, help=module.__doc__)(module.command)
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, _first_line(_FOLDER / f"{name}.py")) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


app = typer.Typer(
    cls=LazyGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


_Version = Annotated[
    bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
]


@app.callback()
def feedwell(version: _Version = False) -> None:
    """Recommendation feeds, end to end, from one project file.

    Exit codes: 0 ok, 1 a check failed, 2 usage, 3 project file, 4 data, 5 unavailable.
    """


def main() -> None:
    """Runs the command line; an expected error is one message on stderr and its exit code."""
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except _UsageError as error:  # the call itself: an unknown command or option, a value that does not fit
        if "--json" in sys.argv:
            _report(error, error.exit_code, error.format_message())
        error.show()
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(130)
    except FeedwellError as error:
        _report(error, error.exit_code)
    except BrokenPipeError:  # `feedwell ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _report(error, 5, f"the system refused: {error.strerror or error}{where}")


def _report(error: BaseException, exit_code: int, text: str = "") -> None:
    message = text or str(error)
    if "--json" in sys.argv:
        problems = [str(p) for p in getattr(error, "problems", ())]
        found = {"error": message, "kind": type(error).__name__, "exit_code": exit_code}
        typer.echo(json.dumps(found | ({"problems": problems} if problems else {})))
    else:
        typer.echo(f"feedwell: {message}", err=True)
    sys.exit(exit_code)
