"""Training of the twins: autoencoders, text encoders, and one denoiser for each family."""
