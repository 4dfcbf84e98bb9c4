"""Whole jobs: cancelled, blocked, or known to fail everywhere."""
