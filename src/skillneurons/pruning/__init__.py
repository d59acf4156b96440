"""Put to use: a smaller model that keeps the skill neurons, the others frozen and merged into biases."""
