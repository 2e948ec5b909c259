"""Limits on what strangers cost the server: work, memory, decoding, connections, slow readers."""
