"""The parts of `fuzz_records.py`."""
