"""Runs held against laboratory screens (Perturb-seq)."""
