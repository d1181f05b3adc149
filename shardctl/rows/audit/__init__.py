"""What is where it should not be: checks that only read, and what they find."""
