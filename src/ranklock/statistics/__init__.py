"""Statistics of effects, on plain arrays: intervals, change points, variance, tests, networks."""
