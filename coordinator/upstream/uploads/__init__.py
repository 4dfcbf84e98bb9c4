"""What goes up to the render server: frames and error reports, and their pace."""
