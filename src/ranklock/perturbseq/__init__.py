"""Runs held against laboratory screens (Perturb-seq), and against natural knock-outs."""
