"""Settings of the small runs: two epochs of two steps, saved after each."""

SETTINGS = (
    "loss.points=128",
    "loss.start_contrast=1",
    "optim.epochs=2",
    "optim.batch_size=2",
    "run.log_every=1",
    "run.workers=0",
    "run.save_every=1",
)
