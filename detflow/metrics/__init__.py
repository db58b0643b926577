"""How good detections are.

`coco` wraps pycocotools, whose matching at IoU .5 `curves` and `errors` build on; `voc` and
`confusion` match by rules of their own.
"""
