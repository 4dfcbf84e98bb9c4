"""The leases: life cycle, ledger, counters. Every other part asks here what became of a frame."""
