"""Processes that share the work: of this machine, or of a Ray cluster."""
