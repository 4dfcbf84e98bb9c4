"""Who may call what: roles, the table of routes and commands, and the passwords of people."""
