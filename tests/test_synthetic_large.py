"""Generated large images with small defects."""

from __future__ import annotations

import numpy as np

from sowa.synthetic.large import FIRST_TEST_PIECE, PART, ProductLine


def test_a_small_defect_lies_on_a_part_of_the_image() -> None:
    own, small = (ProductLine("wood", 1, (600, 600), 0, 2, own) for own in (True, False))
    assert not np.array_equal(own.image(0)[1], small.image(0)[1])
    assert np.array_equal(own.image(1)[1], small.image(1)[1])
    image, mask = small.image(0)
    rows, columns = np.nonzero(mask)
    assert max(np.ptp(rows), np.ptp(columns)) < PART
    far = np.abs(np.arange(600) - rows.mean()) > PART
    assert np.array_equal(image[far], small.reference(FIRST_TEST_PIECE)[far])


def test_normal_images_come_first() -> None:
    product = ProductLine("wood", 1, (96, 128), normal=2, anomalous=1)
    assert [product.image(index)[1] is None for index in range(len(product))] == [True, True, False]
    assert product.name == "wood-1-96x128-2+1"
