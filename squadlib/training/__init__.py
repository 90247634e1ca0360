"""Fine-tuning: the loop, its steps, its files and its processes: used by run_squad.py."""
