"""What the commands of the command line do beyond calling the package: files, tables, words."""
