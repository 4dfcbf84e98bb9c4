"""The farm's own certificates: who is the coordinator, who is which node, and connections that check it."""
