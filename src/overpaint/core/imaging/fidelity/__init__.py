"""What a model did to a whole picture beside its edit: found, undone, and measured."""
