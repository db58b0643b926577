"""How good a model is on a split: numbers, curves, confusion, errors, and a page that shows all."""
