"""Training: losses, schedules, the loop, and the folder of a run."""
