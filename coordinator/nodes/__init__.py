"""The PCs of the farm: admission, presence, pauses, quarantine, reconciliation."""
