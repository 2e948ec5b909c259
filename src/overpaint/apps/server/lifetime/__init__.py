"""How the server lives and ends: its health, and the time that its end may take."""
