"""The HTTP API for people and scripts: projects, frames, uploads."""
