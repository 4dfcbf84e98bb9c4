"""The Redis that carries orders: our own or a given one, and the lock on the farm."""
