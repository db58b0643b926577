"""What belongs to this process: its signals, its end, its output, and the settings of libraries."""
