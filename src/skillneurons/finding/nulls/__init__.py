"""What a finding is held against: shuffled labels, the random-weight model, input length; the verdict."""
