"""report.html: a page that shows what an audit found in a dataset."""
