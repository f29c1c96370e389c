"""Frames of videos and streams."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from sowa import InputError, Sowa
from sowa.data.video import _newest, frames
from sowa.detector.exported import ExportedSowa

COUNT = 12


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of 64 x 96 pixels, each of one brightness, 20 brighter than the one before, red on the left."""
    path = tmp_path_factory.mktemp("video") / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for index in range(COUNT):
        frame = np.full((64, 96, 3), 20 * index, np.uint8)
        frame[:, :32] = (0, 0, 255)
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def address(video: Path) -> Iterator[str]:
    """The video from a server."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(video.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{video.name}"
        server.shutdown()


def brightness(image: np.ndarray) -> int:
    return round(float(image[:, 64:].mean()) / 20)


def test_all_frames_of_a_file_come_in_order_and_in_colour(video):
    found = list(frames(video))
    assert [original.name for original in found] == [f"{video}#{index:06d}" for index in range(COUNT)]
    images = [original.read() for original in found]
    assert [brightness(image) for image in images] == list(range(COUNT))
    red, green, blue = images[0][:, 8:24].mean(axis=(0, 1))
    assert (red > 200, green < 60, blue < 60) == (True, True, True)


def test_every_so_manieth_frame(video):
    assert [image.name[-2:] for image in frames(video, every=5)] == ["00", "05", "10"]


def test_frames_are_judged_as_images_are(video, prompted, exported):
    frame = next(iter(frames(video))).read()
    for detector in (prompted, ExportedSowa.load(exported)):
        found = list(detector.watch(video, every=4))
        assert [one.image_path[-2:] for one in found] == ["00", "04", "08"]
        assert found[0].raw_score == pytest.approx(detector.predict(frame)[0].raw_score, abs=1e-6)
        assert found[0].image.shape == (64, 96, 3)


def test_a_stream_is_read_from_its_address(address):
    found = [int(image.name[-6:]) for image in frames(address)]
    assert found
    assert found == sorted(set(found))
    assert found[-1] == COUNT - 1


def test_of_something_live_only_the_newest_frame_comes():
    shown, more = threading.Event(), threading.Event()

    def camera() -> Iterator[tuple[int, str]]:
        yield 0, "first"
        shown.wait(10)
        yield from ((index, "missed") for index in range(1, 9))
        yield 9, "newest"
        more.set()

    found = _newest(camera())
    assert next(found) == (0, "first")
    shown.set()
    more.wait(10)
    assert next(found) == (9, "newest")
    assert list(found) == []


def test_who_stops_looking_stops_the_camera():
    closed = threading.Event()

    def camera() -> Iterator[tuple[int, str]]:
        try:
            for index in range(10**9):
                yield index, "frame"
        finally:
            closed.set()

    found = _newest(camera())
    next(found)
    found.close()
    assert closed.is_set()


def test_what_is_no_video_is_one_clear_line(tmp_path, tiny_backbone, video):
    with pytest.raises(InputError, match="doesn't exist; give a file, a camera's number or an address"):
        list(frames(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(InputError, match=r"text.mp4 can't be opened"):
        list(frames(tmp_path / "text.mp4"))
    with pytest.raises(InputError, match="video 77 can't be opened"):
        list(frames(77))
    with pytest.raises(InputError, match="every is 0, allowed is 1 and more"):
        list(frames(video, every=0))
    with pytest.raises(InputError, match="fit the detector"):
        Sowa.from_pretrained(tiny_backbone).watch(video)
