"""Shared by all servers: intake, errors, example pictures."""
