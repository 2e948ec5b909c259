"""Work: what it costs, and how it is interrupted."""
