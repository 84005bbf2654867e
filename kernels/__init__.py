"""GPU and CPU operators between the engines; one folder per operator."""
