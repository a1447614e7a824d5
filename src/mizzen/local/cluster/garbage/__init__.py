"""What goes because its owner went."""
