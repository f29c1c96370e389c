"""Files: written so that nobody ever sees half of one, and read without trust.

The package's own files are safetensors with a format, a version and JSON in their header; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sowa.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

VERSIONS = {"sowa-detector": 3}
"""Of the formats that have changed; all others are of version 1."""
UMASK = os.umask(0)  # can only be read by setting it
os.umask(UMASK)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well, and vanishes otherwise.

    Raises InputError where the folder can't be written or the disk is full; what ``path`` held before stays then.
    """
    if not path.name:
        raise InputError(f"{str(path)!r} names no file; give a file's name")
    temporary = None
    try:
        if path.exists() and not path.is_file():
            raise OSError("it's no regular file")
        if path.is_symlink():  # what the link points to is replaced, not the link
            path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Named before it's made, so that an interrupt at any moment leaves nothing that isn't known.
        temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(8)}.tmp"
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield temporary
        temporary.chmod(0o666 & ~UMASK)  # temporary files are made so that nobody else may read them
        temporary.replace(path)
    except BrokenPipeError:  # somebody stopped reading standard output: nothing is wrong with this file
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} can't be written ({reason}); free some space or choose another place") from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, where they aren't there. Raises InputError where that can't be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} can't be made a folder ({error.strerror}); choose another place") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file, or nothing. Raises InputError as ``replacing`` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def is_file(name: str | Path) -> bool:
    """Whether there is such a file; False for names that no file can have."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], kind: str, metadata: Mapping[str, Any]) -> None:
    """Writes a file of ours.

    Args:
        path: The file.
        tensors: On any device.
        kind: Its format.
        metadata: What JSON can hold.

    Raises:
        InputError: as `replacing` does.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    header = {"format": kind, "version": str(VERSIONS.get(kind, 1)), "sowa": json.dumps(metadata)}
    with replacing(path) as temporary:
        try:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, metadata=header)
        except SafetensorError as error:  # what safetensors makes of a full disk or a folder without permission
            raise OSError(str(error)) from error


def read_safetensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file of ours.

    Raises InputError for a file that is missing, truncated, not ours or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found, metadata = read_metadata(path)
    if found != kind:
        raise InputError(f"{path} is a {found} file, needed is a {kind} file")
    try:
        return load_file(path), metadata
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def read_metadata(path: Path) -> tuple[str, dict[str, Any]]:
    """Format and metadata of a file of ours, from its header alone and without torch.

    Raises InputError as ``read_safetensors`` does.
    """
    header = _header(path)
    kind, version = header.get("format", ""), header.get("version")
    if not kind.startswith("sowa-"):
        raise InputError(f"{path} wasn't written by this package; give a file of sowa fit or sowa train")
    if version != str(needed := VERSIONS.get(kind, 1)):
        raise InputError(f"{path} has version {version} of {kind}, this package reads version {needed}; make it anew")
    try:
        metadata = json.loads(header["sowa"])
        if not isinstance(metadata, dict):
            raise TypeError("its metadata is no object")
    except (KeyError, TypeError, json.JSONDecodeError, RecursionError) as error:
        raise _unreadable(path, error) from None
    return kind, metadata


def file_format(path: Path) -> str | None:
    """Format of a file of ours, None for others'. Raises InputError for a broken safetensors file of that name."""
    if not is_file(path):
        raise InputError(f"{path} is no file; check the path")
    try:
        return _header(path).get("format")
    except InputError:
        if path.suffix in (".safetensors", ".sowa"):
            raise
        return None


def _header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    if not is_file(path):
        raise InputError(f"{path} is no file; check the path")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is truncated or wasn't written by this package ({error}); make it anew")


def packaged(name: str) -> Path:
    """Where the package keeps a file beside its weights."""
    with as_file(files("sowa") / "weights" / name) as path:
        return path
