"""The one part of the farm that talks to the render server: leases frames, orders them from nodes, uploads pictures."""
