"""Work on many scenes: worker processes or Ray actors, a log of what is done, restart."""
