"""Speed and memory beside public peers on the same checkpoints: one module per group of rows."""
