"""An exported model behind HTTP: TF Serving's REST shape, uploads, probes, metrics and a page for people."""
