"""Frames of videos, cameras and network streams, through OpenCV."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from sowa.core.files import is_file
from sowa.data.sources import ImageSource
from sowa.errors import InputError

Numbered = Generator[tuple[int, Any]]


def frames(source: str | os.PathLike[str] | int, every: int = 1) -> Iterator[ImageSource]:
    """Frames of a video, a camera or a network stream, named ``source#000000`` by their number.

    Args:
        source: A video file, whose frames all come in order, or something live: a camera's number or the address of a
            stream (``rtsp://``, ``http://``). Of a live source the newest frame comes, and those that came while the
            last one was looked at are left out, so that nobody looks into the past.
        every: Only each so many-th frame, 1 or more.

    Raises:
        InputError: the source can't be opened or holds no frame, or ``every`` is below 1.
    """
    if every < 1:
        raise InputError(f"every is {every}, allowed is 1 and more")
    live = isinstance(source, int) or "://" in str(source)
    if not live and not is_file(str(source)):
        raise InputError(f"video {source} doesn't exist; give a file, a camera's number or an address such as rtsp://")
    capture = _open(source)
    numbered = _read(capture, every)
    none = True
    with closing(_newest(numbered) if live else numbered) as found:
        for number, frame in found:
            none = False
            yield ImageSource(f"{source}#{number:06d}", np.ascontiguousarray(frame[..., ::-1]))
    if none:
        raise InputError(f"video {source} holds no frame that can be read; save it again as MP4 or AVI")


def _open(source: Any) -> Any:
    try:
        import cv2
    except ImportError:
        raise InputError("videos need OpenCV, which isn't there; pip install opencv-python-headless") from None
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    if not capture.isOpened():
        raise InputError(f"video {source} can't be opened; check the address, or save it again as MP4 or AVI")
    return capture


def _read(capture: Any, every: int) -> Numbered:
    """Numbers and frames (H, W, 3) uint8 BGR; the source is closed with the iterator."""
    try:
        number = 0
        while capture.grab():  # decoding is what costs, so frames in between are only grabbed
            if number % every == 0:
                there, frame = capture.retrieve()
                if there:
                    yield number, frame
            number += 1
    finally:
        capture.release()


def _newest(numbered: Numbered) -> Numbered:
    """What ``numbered`` yields, read in a thread of its own; only what is newest whenever somebody asks."""
    there = threading.Condition()
    waiting: list[tuple[int, Any]] = []
    ended = threading.Event()

    def read() -> None:
        with closing(numbered):
            for one in numbered:
                with there:
                    waiting[:] = [one]
                    there.notify()
                if ended.is_set():
                    break
        with there:
            ended.set()
            there.notify()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while True:
            with there:
                there.wait_for(lambda: waiting or ended.is_set())
                if not waiting:
                    return
                newest = waiting.pop()
            yield newest
    finally:
        ended.set()
        reader.join()
