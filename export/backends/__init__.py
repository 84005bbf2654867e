"""What each backend compiles a graph or a module with."""
