"""What a whole fleet does, simulated with the product's own policy."""
