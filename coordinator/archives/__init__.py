"""Archives fetched from the server, and how nodes get them."""
