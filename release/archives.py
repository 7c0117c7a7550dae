"""Archives with the same bytes at every run: sorted names, one time, and two modes."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can hold."""
EARLIEST_SECONDS: Final = 315_532_800
"""The same moment, in seconds since 1970."""
_PROGRAM, _FILE = 0o755, 0o644


def zipped(files: Mapping[str, bytes], programs: Collection[str] = ()) -> bytes:
    """A zip of files by their names; `programs` may be executed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (_PROGRAM if name in programs else _FILE) << 16
            archive.writestr(entry, files[name])
    return content.getvalue()


def tarred(files: Mapping[str, bytes], programs: Collection[str] = (), first: str = "") -> bytes:
    """A gzipped tar of files by their names; `programs` may be executed, and `first` stands before the others."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files, key=lambda one: (one != first, one)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(files[name]), EARLIEST_SECONDS, _PROGRAM if name in programs else _FILE
            archive.addfile(entry, io.BytesIO(files[name]))
    return gzip.compress(content.getvalue(), 9, mtime=0)


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its name in it, with slashes; what Python compiled is left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
