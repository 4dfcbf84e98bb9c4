"""The single exchanges with the render server, one module each."""
