"""What the kernel costs, beside the floor that the same machine allows. `make bench` runs it."""
