"""One render: command line, process, memory, and what came of it."""
