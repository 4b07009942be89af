"""All knock-outs of a cell from one backward pass, verified by forwards."""
