"""What happens to an order on a node, from its arrival to the coordinator's answer."""
