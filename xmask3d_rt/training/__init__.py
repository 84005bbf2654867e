"""Training: losses, optimiser, trainer, checkpoints."""
