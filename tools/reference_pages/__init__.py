"""One module for each generated page of the reference; each has `page()`, the whole page as Markdown."""
