"""Engines that translate, and what keeps their answers: used by translate_squad.py."""
