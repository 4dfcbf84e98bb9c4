"""Archives on a node: fetched in pieces, unpacked, kept within a quota, shared."""
