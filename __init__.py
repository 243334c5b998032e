"""AOS Kernel: an operating-system kernel for AI agents."""

__version__ = "0.1.0"
