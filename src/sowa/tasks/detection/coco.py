"""What was found, as COCO's JSON files have it: images, categories, and boxes with scores."""

from __future__ import annotations

from typing import Any

from sowa.tasks.detection.detector import Detections


class Coco:
    """Collects images one by one. Boxes are x, y, width, height in pixels."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.names: tuple[str, ...] = ()

    def add(self, found: Detections) -> None:
        """What was found in one image."""
        number, self.names = len(self.images) + 1, found.names
        height, width = found.size
        self.images.append({"id": number, "file_name": found.image_path, "height": height, "width": width})
        rows = zip(found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), strict=True)
        for (x1, y1, x2, y2), score, kind in rows:
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": number,
                    "category_id": kind + 1,
                    "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
                    "area": round((x2 - x1) * (y2 - y1), 2),
                    "iscrowd": 0,
                    "score": round(score, 4),
                }
            )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        categories = [{"id": number, "name": name} for number, name in enumerate(self.names, 1)]
        return {"images": self.images, "annotations": self.annotations, "categories": categories}
