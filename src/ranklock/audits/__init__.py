"""The five questions about the rank shift, answered on a user's own cells and checkpoint."""
