"""What generated rooms are made of: kinds of objects, their shapes, places, light and noise."""
