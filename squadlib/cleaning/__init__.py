"""Finding the answers of a translated file again: used by clean_squad.py."""
