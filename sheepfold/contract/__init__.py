"""What coordinator and worker say to each other: orders, presence records, LAN API messages."""
