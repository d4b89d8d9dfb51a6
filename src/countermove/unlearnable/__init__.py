"""Pictures that nobody shall learn from: poisons against everything a trainer does with the data they received."""
