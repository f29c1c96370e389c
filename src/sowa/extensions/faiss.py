"""An approximate index over a large memory bank, by faiss (Douze et al., The Faiss library, arXiv 2401.08281).

Each level's patches are sorted into lists by their nearest of some centres, and a query looks through the lists of its
own nearest centres only: what it finds is at least as far as the true neighbour, hardly ever much farther.

Shapes: L levels, K reference images, P patches of an image, B test images, E joint width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sowa.errors import InputError

PROBES = 32  # lists that a query looks through
POINTS_PER_LIST = 40  # for k-means; faiss calls fewer too few, and more take longer without finding better
ITERATIONS = 10


def load_faiss() -> Any:
    """The package.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError(f"search by faiss needs a package that isn't there ({error}); pip install faiss-cpu") from None
    return faiss


class FaissSearch:
    """A `sowa.detector.extension.BankSearch`: many times faster than the exact search with hundreds of references.

    Raises:
        InputError: faiss isn't installed. That is said before anything has been encoded.
    """

    def __init__(self) -> None:
        load_faiss()

    def index(self, features_LKPE: Tensor) -> ApproximateIndex:
        """Of a memory bank's unit vectors, which are copied in 16 bits."""
        return ApproximateIndex(features_LKPE)


class ApproximateIndex:
    """A `sowa.core.search.Index` that finds most of what is nearest.

    Args:
        features: Unit vectors, (L, K, P, E).
    """

    def __init__(self, features: Tensor) -> None:
        faiss = load_faiss()
        self.levels = [_level(faiss, level.flatten(0, 1).cpu()) for level in features]

    def nearest(self, query_LBPE: Tensor) -> Tensor:
        """Cosine of each unit vector with the nearest one found, (L, B, P)."""
        found = []
        for index, query_BPE in zip(self.levels, query_LBPE, strict=True):
            cosines, _ = index.search(query_BPE.flatten(0, 1).float().cpu().numpy(), 1)
            found.append(torch.from_numpy(cosines).view(query_BPE.shape[:2]))
        return torch.stack(found).to(query_LBPE.device)


def _level(faiss: Any, vectors_NE: Tensor) -> Any:
    """Lists as many as balance finding the centres and looking through their lists."""
    count, width = vectors_NE.shape
    lists = max(1, min(round(4 * math.sqrt(count)), count // POINTS_PER_LIST))
    index = faiss.index_factory(width, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.nprobe, index.cp.niter, index.cp.max_points_per_centroid = PROBES, ITERATIONS, POINTS_PER_LIST
    vectors = vectors_NE.float().numpy()
    index.train(vectors)
    index.add(vectors)
    return index
