"""Threads, the HTTP server's thread, and memory settings; knows nothing of farms."""
