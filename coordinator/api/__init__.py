"""The HTTP API on the LAN, for nodes and operators."""
