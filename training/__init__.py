"""What makes the data of the demo: its cells, its model, and the model's card."""
