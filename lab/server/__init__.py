"""The render server itself."""
