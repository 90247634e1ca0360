"""What evaluate_v2.py does beside the official metric: comparisons, breakdowns, normalisations of other data sets."""
