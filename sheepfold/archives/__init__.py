"""What an archive from somebody else may be, and whether it is a renderer that only starts another."""
