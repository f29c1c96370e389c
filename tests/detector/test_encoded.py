"""Images that are asked for again aren't encoded again, and are forgotten once they were taken."""

import numpy as np

from sowa.detector.encoded import Encoded
from sowa.encoders.torch_encoder import TorchEncoder


def test_a_batch_is_encoded_once_until_it_is_taken(tiny_backbone: str) -> None:
    encoder = TorchEncoder.from_pretrained(tiny_backbone)
    encoded = Encoded(encoder)
    images = np.random.default_rng(0).integers(256, size=(2, 64, 64, 3), dtype=np.uint8)
    first = encoded(images)
    assert encoded(images.copy()) is first
    assert encoded(images[:1]) is not first
    assert encoded.take(images) is first
    again = encoded.take(images)
    assert again is not first
    assert encoded.take(images) is not again
    for one, other in zip(first.patches, encoder.encode(images).patches, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_batches_of_the_same_bytes_and_other_shapes_are_told_apart(tiny_backbone: str) -> None:
    encoded = Encoded(TorchEncoder.from_pretrained(tiny_backbone))
    wide = np.zeros((1, 64, 128, 3), np.uint8)
    assert encoded(wide) is not encoded(wide.reshape(1, 128, 64, 3))
