"""The exchange of archive pieces on the LAN: what both ends of it need."""
