"""Effects held against a real screen: what truly changed, and what gene-level baselines know."""
