"""Pictures and videos → a folder with detections, for programs and for a person's eyes."""

from detflow.predict.files import parse_formats
from detflow.predict.run import Predictions, predict

__all__ = ["Predictions", "parse_formats", "predict"]
