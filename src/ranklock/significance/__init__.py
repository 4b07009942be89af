"""Which effects are more than what other genes do: tests over cells or donors."""
