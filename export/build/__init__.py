"""Engine directories: planned, built where something changed, checked, put in place."""
