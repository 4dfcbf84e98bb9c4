"""What the server keeps: its database, its pictures, its archives."""
