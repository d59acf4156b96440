"""Which prompt transfers where: ON, zero-shot transfer, and how well the one tells the other."""
