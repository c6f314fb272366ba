"""What the trainings of both worlds share."""
