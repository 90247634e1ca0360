"""What the five scripts at the top are made of, one subject a file; docs/architecture.md shows the way through it."""
