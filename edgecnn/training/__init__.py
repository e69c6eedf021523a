"""Training: recipes, the head on cached features, the run folder."""
