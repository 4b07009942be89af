"""One experiment: plan, store, execute, and the run that is read back."""
