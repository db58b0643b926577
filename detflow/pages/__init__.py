"""What pages and pictures are made of: templates, charts, outlines, one table of colours."""
