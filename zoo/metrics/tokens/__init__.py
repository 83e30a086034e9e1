"""What tokens tell, and how much of it."""
