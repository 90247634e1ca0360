"""From questions to windows, from windows to logits, from logits to answers: used by run_squad.py and `pipeline`."""
