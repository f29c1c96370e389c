"""Files are whole or not there, and what isn't ours is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sowa.core.files import file_format, read_metadata, read_safetensors, replacing, write_bytes, write_safetensors
from sowa.errors import InputError

KIND = "sowa-weights"
TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3, dtype=torch.int64), "c": torch.ones(2).half()}
METADATA = {"number": 0.1, "nested": {"list": [1, 2], "nothing": None}, "text": "Größe"}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "file.safetensors"
    write_safetensors(path, TENSORS, KIND, METADATA)
    return path


def refused(path: Path, read=lambda path: read_safetensors(path, KIND)) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_was_written_is_read_again(written):
    tensors, metadata = read_safetensors(written, KIND)
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_the_header_is_read_without_the_tensors(written):
    assert read_metadata(written) == (KIND, METADATA)
    assert file_format(written) == KIND


def test_folders_are_made_on_the_way(tmp_path):
    path = tmp_path / "new" / "folder" / "note.txt"
    write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_appears_only_when_the_block_ends(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError, RuntimeError),
        (KeyboardInterrupt, KeyboardInterrupt),
        (OSError, InputError),
        (BrokenPipeError, BrokenPipeError),
    ],
)
@pytest.mark.parametrize("before", [None, "old"])
def test_a_block_that_raises_leaves_everything_as_it_was(tmp_path, error, raised, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_text(before)

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error(28, "No space left on device")

    with pytest.raises(raised):
        half()
    assert (path.read_text() if path.exists() else None) == before
    assert len(list(tmp_path.iterdir())) == (before is not None)


def test_a_full_disk_is_named_in_one_line(tmp_path):
    def full() -> None:
        with replacing(tmp_path / "file"):
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"file can't be written \(No space left on device\); free some space"):
        full()


def test_a_folder_in_the_files_place_is_refused(tmp_path):
    (tmp_path / "taken").mkdir()
    for write in (
        lambda path: write_bytes(path, b"text"),
        lambda path: write_safetensors(path, TENSORS, KIND, METADATA),
    ):
        assert "can't be written" in refused(tmp_path / "taken", write)
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


@pytest.mark.parametrize("name", ["plain.txt/new", "x" * 300])
def test_a_place_where_no_file_can_be_is_an_input_error(tmp_path, name):
    """A file where a folder should be, and a name that is too long."""
    (tmp_path / "plain.txt").write_text("a file")
    assert "can't be written" in refused(tmp_path / name, lambda path: write_bytes(path, b"text"))


def test_a_missing_file_and_a_folder_are_no_files(tmp_path):
    assert "is no file" in refused(tmp_path / "nowhere.safetensors")
    assert "is no file" in refused(tmp_path)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_refused(written, part):
    whole = written.read_bytes()
    written.write_bytes(whole[: int(len(whole) * part)])
    assert "truncated or wasn't written by this package" in refused(written)


def test_an_empty_file_is_refused(written):
    written.write_bytes(b"")
    assert "truncated or wasn't written by this package" in refused(written)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused(written, seed):
    written.write_bytes(np.random.default_rng(seed).bytes(4096))
    refused(written)
    refused(written, read_metadata)
    refused(written, file_format)


def test_a_file_of_another_tool_is_refused(tmp_path):
    path = tmp_path / "theirs.safetensors"
    save_file(TENSORS, path)
    assert file_format(path) is None
    assert "wasn't written by this package" in refused(path)
    save_file(TENSORS, path, metadata={"format": "pt"})
    assert "wasn't written by this package" in refused(path)


def test_a_file_of_ours_of_another_kind_is_refused(written):
    message = refused(written, lambda path: read_safetensors(path, "sowa-detector"))
    assert "is a sowa-weights file, needed is a sowa-detector file" in message


@pytest.mark.parametrize("version", ["2", "0", "", None])
def test_a_file_of_another_version_is_refused(tmp_path, version):
    path = tmp_path / "later.safetensors"
    header = {"format": KIND, "sowa": json.dumps(METADATA)}
    save_file(TENSORS, path, metadata=header if version is None else {**header, "version": version})
    assert f"has version {version} of sowa-weights, this package reads version 1" in refused(path)


@pytest.mark.parametrize("metadata", [None, "", "{", "[1]", "3"])
def test_a_header_that_is_no_json_object_is_refused(tmp_path, metadata):
    path = tmp_path / "odd.safetensors"
    header = {"format": KIND, "version": "1"}
    save_file(TENSORS, path, metadata=header if metadata is None else {**header, "sowa": metadata})
    refused(path)
