"""Judges TFRecord files, whoever wrote them."""
