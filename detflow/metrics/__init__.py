"""How good detections are. The package's own names are what training needs; its modules say more.

`coco` wraps pycocotools, whose matching at IoU .5 `curves` and `errors` build on; `voc` and
`confusion` match by rules of their own.
"""

from detflow.metrics.coco import EvaluatedImage, coco_metrics, metric_names

__all__ = ["EvaluatedImage", "coco_metrics", "metric_names"]
