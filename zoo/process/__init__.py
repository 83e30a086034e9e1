"""What a process has one of for all its threads: random numbers, default dtype and device; left as they were found."""
