"""The messages between coordinator and worker: orders, presence records, LAN API."""
