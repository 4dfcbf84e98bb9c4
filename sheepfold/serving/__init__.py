"""What every HTTP server here needs against hostile clients: limits on connections, and who may send a change."""
