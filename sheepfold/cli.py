"""The ``sheepfold`` command. Each part of the farm is imported only when its command runs.

Exit codes are in :class:`sheepfold.errors.ExitCode`.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from lab import cli as lab_cli

from . import __version__
from .config import unknown_settings
from .errors import CommandFailed, ExitCode, SheepfoldError, WrongArgument
from .logs import log_to_stderr, printable, printable_lines

app = typer.Typer(
    name="sheepfold",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
node_app = typer.Typer(help="The PCs of the farm.", no_args_is_help=True)
ledger_app = typer.Typer(help="The durable record of every frame.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
app.add_typer(node_app, name="node")
app.command("server")(lab_cli.server)
app.command("submit")(lab_cli.submit)
app.command("lab")(lab_cli.lab)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"sheepfold {__version__}")
        raise typer.Exit


#: Libraries that tell each request they make or answer.
NOISY = ("urllib3", "httpx", "uvicorn.access", "celery", "kombu")


@app.callback()
def warn_of_unknown_settings(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Every PC of the LAN behind one account of a SheepIt-protocol render server."""
    for line in unknown_settings(os.environ):
        print(f"warning: {line}", file=sys.stderr)


@app.command()
def coordinator() -> None:
    """Hold the account's session and keep the LAN's PCs rendering."""
    from coordinator.settings import CoordinatorSettings
    from coordinator.startup import run_coordinator

    log_to_stderr(quiet=NOISY)
    raise typer.Exit(run_coordinator(CoordinatorSettings()))  # type: ignore[call-arg]


@app.command()
def worker(
    join: Annotated[
        str | None, typer.Option(metavar="LINE", help="Join by this line of `sheepfold node invite`, once.")
    ] = None,
) -> None:
    """Render on this PC for the coordinator."""
    from render_tasks.process import worker as run_worker

    raise typer.Exit(run_worker(join))


@app.command()
def doctor() -> None:
    """Look whether this PC is fit to render for the farm, and say what to do where it is not.

    Exit code 1 where something is not fine.
    """
    from render_tasks.startup.doctor import examine

    failed = False
    for finding in examine():
        failed |= not finding.is_fine
        typer.echo(f"{'ok' if finding.is_fine else 'NO':4}{finding.what}: {finding.says}")
    raise typer.Exit(ExitCode.FAILED if failed else ExitCode.DONE)


@app.command("forget-farm")
def forget_farm() -> None:
    """Let this PC belong to another farm, or to its own that was set up anew: the next one that its worker joins."""
    from render_tasks.settings import WorkDirSettings
    from render_tasks.startup.pinned_farm import PinnedFarm

    work_dir = WorkDirSettings().work_dir
    label = PinnedFarm(work_dir).forget()
    typer.echo(f"{work_dir} no longer belongs to farm {label}" if label else f"{work_dir} belongs to no farm")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole status as JSON.")] = False,
) -> None:
    """Show the session, the leases, and what each PC renders."""
    from coordinator.operator.client import OperatorClient
    from coordinator.operator.status_table import print_status
    from coordinator.settings import FarmSettings

    answer = OperatorClient(FarmSettings()).status()
    if as_json:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        print_status(answer)


_Target = Annotated[str, typer.Argument(metavar="JOB[:FRAME]", help="Which job, by number or name, or which frame.")]


@app.command()
def cancel(target: _Target) -> None:
    """Stop a job, or one frame of it, and render nothing more of it until it is unblocked.

    What was rendering ends at once, and its frames go back to the server.
    """
    from coordinator.operator.client import OperatorClient
    from coordinator.settings import FarmSettings

    for stopped in OperatorClient(FarmSettings()).cancel(target):
        count, job = stopped["frames"], stopped["job"]
        number = job["number"] + (f":{stopped['frame']}" if stopped["frame"] else "")
        at_server = f"; at the server: {stopped['at_server']}" if stopped["at_server"] else ""
        typer.echo(
            f"{count} frame{'' if count == 1 else 's'} cancelled of job {job['number']} {job['name']!r}{at_server}"
        )
        typer.echo(f"nothing of it is rendered here until: sheepfold unblock {number}")


@app.command()
def unblock(target: _Target) -> None:
    """Render a job, or a frame, again that was cancelled or put on hold."""
    from coordinator.operator.client import OperatorClient
    from coordinator.settings import FarmSettings

    for block in OperatorClient(FarmSettings()).unblock(target):
        typer.echo(f"{block['label']} may be rendered again")


@app.command()
def ask() -> None:
    """Ask the server for frames now, instead of when its time has come."""
    from coordinator.operator.client import OperatorClient
    from coordinator.settings import FarmSettings

    asked = OperatorClient(FarmSettings()).ask()
    for session in asked:
        typer.echo(f"{session['name']}: {session['said']}")
    raise typer.Exit(ExitCode.DONE if any(session["asked"] for session in asked) else ExitCode.FAILED)


@app.command()
def log(target: Annotated[str, typer.Argument(metavar="JOB:FRAME", help="Which frame of which job.")]) -> None:
    """Show why a frame failed: the renderer's log of its last attempt."""
    from coordinator.operator.client import OperatorClient
    from coordinator.settings import FarmSettings

    job, colon, frame = target.rpartition(":")
    if not colon or not job or not frame:
        raise WrongArgument(f"{target!r} names no frame: JOB:FRAME, for example film:0012")
    found = OperatorClient(FarmSettings()).log(job, frame)
    typer.echo(printable_lines(found["text"]))
    if found["path"]:
        typer.echo(f"kept on the coordinator's machine in {found['path']}", err=True)


@app.command()
def flower(
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the coordinator instead of giving up.")] = False,
) -> None:
    """Show the farm's tasks in Flower, behind a login."""
    from coordinator.operator.client import OperatorClient
    from coordinator.operator.flower import FlowerSettings, run_flower

    log_to_stderr(quiet=NOISY)
    settings = FlowerSettings()
    run_flower(settings, OperatorClient(settings).redis_url, wait=wait)


@node_app.command()
def release(name: Annotated[str, typer.Argument(help="The PC's name, as the status shows it.")]) -> None:
    """Let a quarantined or paused PC render again."""
    from coordinator.operator.client import OperatorClient
    from coordinator.settings import FarmSettings

    if not OperatorClient(FarmSettings()).release(name):
        raise CommandFailed(
            f"no PC called {name!r} has a strike or is paused; sheepfold status shows which are quarantined"
        )
    typer.echo(f"{name} may render again")


@node_app.command()
def invite() -> None:
    """Print the line by which one PC joins the farm, with `sheepfold worker --join LINE`, within 15 minutes."""
    from coordinator.operator.client import OperatorClient
    from coordinator.settings import FarmSettings

    given = OperatorClient(FarmSettings()).invite()
    typer.echo(given["line"])
    typer.echo(f"the farm's fingerprint is {given['fingerprint']}", err=True)


@node_app.command()
def revoke(name: Annotated[str, typer.Argument(help="The PC's name, as the status shows it, or its node id.")]) -> None:
    """Turn a PC out of the farm for good: a stolen one, or one that frames may have taken over.

    Its credential and its user of Redis end, and its frames go to other PCs, at once.
    """
    from coordinator.operator.client import OperatorClient
    from coordinator.settings import FarmSettings

    for revoked in OperatorClient(FarmSettings()).revoke(name):
        later = "" if revoked["is_cut_off"] else "; Redis is away and cuts it off when it is back"
        typer.echo(f"{revoked['name']} (node {revoked['node_id']}) is revoked{later}")


@ledger_app.command()
def backup(file: Annotated[Path, typer.Argument(help="Where the copy goes.")]) -> None:
    """Copy the ledger while the coordinator runs."""
    from coordinator.leases.errors import LedgerError
    from coordinator.leases.ledger_database import backup_ledger
    from coordinator.settings import FarmSettings

    source = FarmSettings().state_dir / "ledger.sqlite"
    if not source.is_file():
        raise WrongArgument(f"there is no ledger at {source}: is SHEEPFOLD_STATE_DIR the coordinator's?")
    if file.is_dir():
        raise WrongArgument(f"{file} is a folder: name a file in it")
    # Not made here: where a disk for backups is not mounted, its folder must not appear on another disk.
    if not file.absolute().parent.is_dir():
        raise WrongArgument(f"there is no folder {file.absolute().parent}: make it first, or name another place")
    try:
        backup_ledger(source, file)
    except LedgerError as error:
        raise CommandFailed(f"{file} was not written: {error}") from None
    typer.echo(f"{file} holds the ledger")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: an error of ours becomes one line on stderr and its exit code.

    ``arguments`` come from the command line where none are given. Always ends with SystemExit.
    """
    try:
        app(arguments)
    except ValidationError as error:
        _fail("\n".join(_setting_line(detail) for detail in error.errors()), ExitCode.WRONG_SETTING)
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        _fail(f"sheepfold.toml cannot be read: {error}", ExitCode.WRONG_SETTING)
    except SheepfoldError as error:
        _fail(error.operator_line, error.exit_code)


def _setting_line(error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return message  # a validator of the whole, which names its variable itself
    name = "SHEEPFOLD_" + str(error["loc"][0]).upper()
    return f"{name}: {'is required' if error['type'] == 'missing' else message}"


def _fail(line: str, code: ExitCode) -> NoReturn:
    print(printable(line), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
