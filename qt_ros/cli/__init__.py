"""The command `qt-ros`: one module per subcommand, imported only when that subcommand runs."""
