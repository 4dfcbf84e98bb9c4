"""The farm's one voice to the render server: leases frames, hands them to nodes, uploads what comes back."""
