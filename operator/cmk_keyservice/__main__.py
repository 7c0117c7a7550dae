"""`cmk-keyservice`: the commands of the key service."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cmk_keyservice.crypto.key_ring import KeyRing, RingName, new_key_ring, with_new_key, with_primary
from cmk_keyservice.problem import ProblemError
from cmk_keyservice.process_memory import keep_freed_memory, keep_memory_private
from cmk_keyservice.settings import VARIABLES, ConsoleSettings, MigrateSettings, SealSettings, ServeSettings
from cmk_operator import __version__
from cmk_operator.logs import configure_logging
from cmk_operator.process_settings import ProcessSettings, settings_or_exit

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

_LOG: Final = logging.getLogger("cmk_keyservice")
COLLECT_AFTER: Final = 50_000
"""New objects after which Python collects cyclic garbage: requests make many objects and no cycles."""
USAGE: Final = """\
usage: cmk-keyservice COMMAND [ARGUMENTS]

Encrypts and decrypts for services, under keys whose root is the organization's own key.

commands:
  serve                    serve callers until SIGTERM
  console                  serve the page for organizations' administrators until SIGTERM
  migrate                  bring the tables of the database to this release, and end
  new-keyring FILE         write a new key ring (a Tink keyset) to a file that does not exist yet; -: to standard output
  add-key FILE             write the key ring with one more key, which decrypts but does not encrypt yet, to standard output
  use-key FILE KEY_ID      write the key ring that encrypts by this key from now on to standard output
  seal-again               seal all rows of the database by the key that the internal key ring encrypts by now
  remove-key FILE KEY_ID   write the internal key ring without this key to standard output, if no row is sealed by it
  break-glass NAME ...     write the Secret's entry of a break-glass account for the console to standard output
  export-record ID         write an organization's audit record to standard output, for `kubectl cmk audit verify FILE`

`break-glass --help` lists its options. `serve --help`, `console --help` and `migrate --help` list their settings, which are also environment variables CMK_KEYSERVICE_<NAME>.

To rotate a key ring: add-key, replace the Secret, and wait until every replica has been restarted with it; then use-key, and
replace the Secret again. Rows need the old key until seal-again has run, backups until they have expired; then remove-key.
"""
S = TypeVar("S", bound=ProcessSettings)


def _settings(kind: type[S], arguments: list[str]) -> S:
    return settings_or_exit("cmk-keyservice", kind, arguments, VARIABLES)


def _serve(arguments: list[str]) -> int:
    import uvloop  # noqa: PLC0415 - the other commands start faster without what only this one needs

    from cmk_keyservice.serving import connect_and_serve  # noqa: PLC0415

    keep_memory_private()
    keep_freed_memory()
    settings = _settings(ServeSettings, arguments)
    configure_logging(settings.log_format, settings.log_level)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Imported modules stay for the life of the process: the collector need not check them each time.
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(connect_and_serve(settings))


def _console(arguments: list[str]) -> int:
    from cmk_keyservice.console.serving import serve_console  # noqa: PLC0415 - as above

    keep_memory_private()
    settings = _settings(ConsoleSettings, arguments)
    configure_logging(settings.log_format, settings.log_level)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return asyncio.run(serve_console(settings))


def _migrate(arguments: list[str]) -> int:
    from cmk_keyservice.store.schema import migrate  # noqa: PLC0415 - as above

    settings = _settings(MigrateSettings, arguments)
    configure_logging(settings.log_format, settings.log_level)
    try:
        steps = migrate(settings.database())
    except ProblemError as error:
        _LOG.error("%s. %s", error.problem.detail, error.problem.remedy)
        return 1
    except OSError as error:
        _LOG.error("the file with the URL of the database cannot be read: %s", error)
        return 2
    _LOG.info("the tables are those of this release", extra={"version": __version__, "applied": steps})
    return 0


def _maintain(work: Coroutine[object, object, str]) -> int:
    """Run work on the database; what it did, or what kept it from ending well, goes to standard error."""
    try:
        done = asyncio.run(work)
    except ProblemError as error:
        sys.stderr.write(f"cmk-keyservice: {error.problem.detail}. {error.problem.remedy}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"cmk-keyservice: {error}\n")
        return 2
    sys.stderr.write(f"cmk-keyservice: {done}\n")
    return 0


async def _sealed_again(settings: SealSettings) -> str:
    from cmk_keyservice.maintenance import seal_all_again  # noqa: PLC0415 - as above

    file = settings.internal_keyring_file
    ring = KeyRing.parse(RingName.INTERNAL, file.read_bytes() if file.exists() else None)
    sealed = await seal_all_again(settings.database(), ring)
    return f"rows that were sealed again by key {ring.primary_id}: {sealed}; none is left"


async def _removed_key(settings: MigrateSettings, file: str, key_id: str) -> str:
    from cmk_keyservice.maintenance import without_unused_key  # noqa: PLC0415 - as above

    if not key_id.isdecimal():
        raise OSError(f"{key_id!r} is not the number of a key")
    document = Path(file).read_bytes()  # noqa: ASYNC240 - nothing else runs
    sys.stdout.write((await without_unused_key(settings.database(), document, int(key_id))).decode())
    return f"the key ring without key {key_id} was written: replace the Secret by it"


async def _exported(settings: MigrateSettings, organization: str) -> str:
    from cmk_keyservice.maintenance import export_record  # noqa: PLC0415 - as above

    entries = await export_record(settings.database(), organization, sys.stdout.write)
    return f"entries: {entries}"


def _new_keyring(file: str) -> int:
    if file == "-":
        sys.stdout.write(new_key_ring().decode())
        return 0
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        sys.stderr.write(f"cmk-keyservice: {error}: name a file that does not exist yet, in a folder that does\n")
        return 2
    with os.fdopen(descriptor, "wb") as output:
        output.write(new_key_ring())
    return 0


def _changed_keyring(file: str, key_id: str | None) -> int:
    try:
        document = Path(file).read_bytes()
        if key_id is None:
            changed = with_new_key(RingName.INTERNAL, document)
        else:
            changed = with_primary(RingName.INTERNAL, document, int(key_id))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cmk-keyservice: {error}\n")
        return 2
    except ProblemError as error:
        sys.stderr.write(f"cmk-keyservice: {error.problem.detail}. {error.problem.remedy}\n")
        return 1
    sys.stdout.write(changed.decode())
    return 0


def _break_glass(options: list[str]) -> int:
    from cmk_keyservice.console.account_command import break_glass  # noqa: PLC0415 - as above

    keep_memory_private()
    return break_glass(options)


def _by_hand(arguments: list[str]) -> int:
    """The commands of a person: key rings and records."""
    match arguments:
        case ["new-keyring", file]:
            return _new_keyring(file)
        case ["add-key", file]:
            return _changed_keyring(file, None)
        case ["use-key", file, key_id]:
            return _changed_keyring(file, key_id)
        case ["seal-again", *options]:
            return _maintain(_sealed_again(_settings(SealSettings, options)))
        case ["remove-key", file, key_id, *options]:
            return _maintain(_removed_key(_settings(MigrateSettings, options), file, key_id))
        case ["break-glass", *options]:
            return _break_glass(options)
        case ["export-record", organization, *options]:
            return _maintain(_exported(_settings(MigrateSettings, options), organization))
        case _:
            sys.stderr.write(USAGE)
            return 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status. 2: arguments or settings cannot be used."""
    match list(sys.argv[1:] if arguments is None else arguments):
        case ["serve", *settings]:
            return _serve(settings)
        case ["console", *settings]:
            return _console(settings)
        case ["migrate", *settings]:
            return _migrate(settings)
        case ["--version"]:
            sys.stdout.write(f"{__version__}\n")
            return 0
        case ["-h" | "--help" | "help", *_]:
            sys.stdout.write(USAGE)
            return 0
        case command:
            return _by_hand(command)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
