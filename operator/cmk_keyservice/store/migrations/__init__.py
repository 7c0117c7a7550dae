"""The steps that make the tables, one file for each; a file that was released never changes."""
