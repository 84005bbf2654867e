"""Quality in numbers: IoU over labelled scenes, its files and plots."""
