"""The five questions, answered with numbers from a sweep; see DESIGN.md, section 1."""
