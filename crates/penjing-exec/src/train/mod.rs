//! Training: optimizers, schedules, losses, metrics, checkpoints.
