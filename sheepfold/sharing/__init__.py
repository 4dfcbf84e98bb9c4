"""The exchange of archive pieces on the LAN: what the client and the server of it need."""
