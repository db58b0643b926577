"""Kinds of sabotage for `sabotage_exports.py`, and what they are done to."""
