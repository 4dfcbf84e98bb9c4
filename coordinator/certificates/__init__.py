"""The farm's authority, the invitations by which PCs get a certificate of it, and how this machine is reached."""
