"""What a neuron does: the texts it fires for, its labels, its activation token by token."""
