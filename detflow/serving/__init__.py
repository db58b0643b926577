"""An exported model behind HTTP: TF Serving's REST calls, uploads, probes, metrics, a page."""
