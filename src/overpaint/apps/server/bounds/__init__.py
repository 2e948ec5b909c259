"""What strangers may cost the server: work, memory, time of decoding, connections, slow readers."""
