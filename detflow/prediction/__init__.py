"""Pictures and videos → a folder with detections, for programs and for a person's eyes."""
