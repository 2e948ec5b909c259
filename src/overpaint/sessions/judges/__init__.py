"""How well an edit did what was asked: by pixels, by a model of pictures, by a vision model."""
