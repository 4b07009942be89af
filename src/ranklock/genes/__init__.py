"""Genes: vocabularies, names, known links."""
