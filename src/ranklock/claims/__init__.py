"""From effects to claims: what is specific to a pair of genes, and how sure that is."""
