"""How fast, how large and how good each format of a model is, each measured in a process of its own."""
